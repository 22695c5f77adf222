#!/usr/bin/env python3
"""Writes what the package says about the code of others in the program:

    andon.cdx.json         every crate, and the C code that two of them bundle (CycloneDX, by cargo-cyclonedx)
    THIRD-PARTY-LICENCES   the licence texts that these crates bring, each text once

    scripts/bill-of-materials.py DIRECTORY [FEATURE…]
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

LICENCE_FILE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense|epl-|edl-)", re.IGNORECASE)
NO_TEXT = (".html", ".rs", ".toml")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def linked_packages(features):
    """Returns the crates behind the program, without those of its tests, by name and version."""
    host = re.search(r"host: (.+)", run("rustc", "-vV"))[1]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host]
    metadata = json.loads(run(*command, "--features", ",".join(features)))
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    linked, waiting = set(), [root]
    while waiting:
        each = waiting.pop()
        if each not in linked:
            linked.add(each)
            kinds = lambda dependency: {kind["kind"] for kind in dependency["dep_kinds"]}
            waiting += [dep["pkg"] for dep in nodes[each]["deps"] if kinds(dep) != {"dev"}]
    packages = [package for package in metadata["packages"] if package["id"] in linked - {root}]
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def directory(package):
    return pathlib.Path(package["manifest_path"]).parent


def licence_texts(package):
    """Yields the licence texts of a crate, and of the code that it bundles."""
    for place, subdirectories, files in os.walk(directory(package)):
        depth = len(pathlib.Path(place).relative_to(directory(package)).parts)
        subdirectories[:] = sorted(subdirectories) if depth < 1 else []
        for name in sorted(files):
            if LICENCE_FILE.match(name) and not name.endswith(NO_TEXT):
                yield (pathlib.Path(place) / name).read_text(encoding="utf-8", errors="replace").strip()


def write_licences(packages, path):
    users, texts = collections.defaultdict(list), {}
    without = []
    for package in packages:
        title = f"{package['name']} {package['version']} ({package['license']})"
        found = {" ".join(text.split()): text for text in licence_texts(package)}
        texts.update(found)
        for key in found:
            users[key].append(title)
        if not found:
            without.append(title)
    rule = "=" * 100
    with open(path, "w", encoding="utf-8") as out:
        out.write("The program contains the crates below. Each list is followed by the licence text that its crates bring.\n"
                  "Of the C code in it, SQLite is in the public domain, and Eclipse Paho is under the EPL-2.0, which stands below\n"
                  "at paho-mqtt-sys; its source, unchanged, is in that crate at https://crates.io/crates/paho-mqtt-sys.\n")
        if without:
            out.write("\nThese bring no text; their licence is as named:\n" + "".join(f"  {title}\n" for title in without))
        for key in sorted(users, key=lambda key: users[key]):
            out.write(f"\n{rule}\n" + "".join(f"  {title}\n" for title in users[key]) + f"\n{texts[key]}\n")


def bundled_c(packages):
    """Yields the C code in crates: the crate, and its component."""
    for package in packages:
        if package["name"] == "libsqlite3-sys":
            header = (directory(package) / "sqlite3/sqlite3.h").read_text(encoding="utf-8")
            version = re.search(r'#define SQLITE_VERSION +"([^"]+)"', header)[1]
            cpe = f"cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*"
            yield package, component("sqlite", version, f"pkg:generic/sqlite@{version}", "blessing", cpe=cpe)
        if package["name"] == "paho-mqtt-sys":
            parts = [directory(package) / f"paho.mqtt.c/version.{part}" for part in ("major", "minor", "patch")]
            version = ".".join(part.read_text(encoding="utf-8").strip() for part in parts)
            purl = f"pkg:github/eclipse-paho/paho.mqtt.c@v{version}"
            yield package, component("paho.mqtt.c", version, purl, "EPL-2.0")


def component(name, version, purl, licence, **more):
    basis = {"type": "library", "bom-ref": purl, "name": name, "version": version, "scope": "required", "purl": purl}
    return basis | {"licenses": [{"license": {"id": licence}}]} | more


def write_sbom(packages, features, path):
    cyclonedx = shutil.which("cargo-cyclonedx") or "target/tools/bin/cargo-cyclonedx"
    made = pathlib.Path("bill-of-materials.json")  # It writes beside Cargo.toml, and nowhere else.
    try:
        run(cyclonedx, "cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--features", " ".join(features),
            "--override-filename", made.stem)
        text = made.read_text(encoding="utf-8")
    finally:
        made.unlink(missing_ok=True)
    # Our own crate is named by the place where it was built.
    sbom = json.loads(re.sub(r"path\+file://[^\"#]*#", "", text).replace("?download_url=file://.", ""))
    for package, part in bundled_c(packages):
        sbom["components"].append(part)
        of_crate = [each for each in sbom["dependencies"] if each["ref"].endswith(f"#{package['name']}@{package['version']}")]
        of_crate[0].setdefault("dependsOn", []).append(part["bom-ref"])
        sbom["dependencies"].append({"ref": part["bom-ref"]})
    with open(path, "w", encoding="utf-8") as out:
        json.dump(sbom, out, ensure_ascii=False, indent=1)
        out.write("\n")


def main():
    out, features = pathlib.Path(sys.argv[1]), sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    packages = linked_packages(features)
    write_licences(packages, out / "THIRD-PARTY-LICENCES")
    write_sbom(packages, features, out / "andon.cdx.json")


main()
