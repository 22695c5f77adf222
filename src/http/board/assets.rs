//! Scripts, styles and the icon, compiled into the binary.
//!
//! One folder, named after a hash of their content, holds them all. Modules import each other by relative names. A new
//! version has new addresses, so browsers may cache every file forever.

use std::sync::LazyLock;

use xxhash_rust::xxh3::Xxh3;

/// A file.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its name within the folder.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its content.
    pub body: &'static str,
}

macro_rules! asset {
    ($name:literal, $media_type:expr) => {
        Asset { name: $name, media_type: $media_type, body: include_str!(concat!("assets/", $name)) }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file.
pub const ASSETS: &[Asset] = &[
    asset!("andon.css", "text/css; charset=utf-8"),
    asset!("board.js", SCRIPT),
    asset!("changes.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("health.js", SCRIPT),
    asset!("icon.svg", "image/svg+xml"),
    asset!("machine.js", SCRIPT),
    asset!("model.js", SCRIPT),
    asset!("order.js", SCRIPT),
    asset!("stream.js", SCRIPT),
    asset!("theme.js", SCRIPT),
    asset!("tile.js", SCRIPT),
    asset!("tile_layout.js", SCRIPT),
    asset!("tiles.js", SCRIPT),
    asset!("trend.js", SCRIPT),
    asset!("trouble.js", SCRIPT),
];

/// The folder's name: 16 hexadecimal digits that change with any file.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Xxh3::new();
    for asset in ASSETS {
        hash.update(asset.name.as_bytes());
        hash.update(asset.body.as_bytes());
    }
    format!("{:016x}", hash.digest())
});

/// Returns the path of a file.
pub fn address(name: &str) -> String {
    debug_assert!(find(name).is_some(), "{name} is one of the assets");
    format!("/assets/{}/{name}", *VERSION)
}

/// Finds a file by name.
pub fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves BRD-1.
    #[test]
    fn no_file_names_another_host() {
        for asset in ASSETS {
            let text = asset.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{} holds an address", asset.name);
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_short_enough_to_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/board/assets");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let asset = find(&name).unwrap_or_else(|| panic!("{name} is not served"));
            assert!(asset.body.lines().count() < 400, "{name} is too long");
        }
    }

    /// Proves BRD-2.
    #[test]
    fn scripts_never_turn_text_into_markup() {
        for asset in ASSETS.iter().filter(|asset| asset.name.ends_with(".js")) {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"]
            {
                assert!(!asset.body.contains(word), "{} uses {word}", asset.name);
            }
        }
    }
}
