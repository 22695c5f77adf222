//! Mosquitto with its dynamic security plugin, which refuses a SUBSCRIBE; an access control file does not.

use std::path::Path;

use super::mosquitto::Mosquitto;
use super::publisher::Single;

/// Starts a broker where every client may publish anything, and subscribe to `always` only, until [`allow_all`]. `directory` must
/// outlive it.
pub fn start(directory: &Path, always: &[&str]) -> Mosquitto {
    let library = std::fs::read_dir("/usr/lib").unwrap().flatten().find_map(|entry| {
        let file = entry.path().join("mosquitto_dynamic_security.so");
        file.exists().then_some(file)
    });
    let library = library.expect("the dynamic security plugin, which comes with mosquitto");
    let file = directory.join("dynamic-security.json");
    let always: String = always
        .iter()
        .map(|filter| format!(r#",{{"acltype":"subscribePattern","topic":"{filter}","allow":true}}"#))
        .collect();
    let rules = format!(
        r#"{{"defaultACLAccess":{{"publishClientSend":true,"publishClientReceive":true,"subscribe":false,"unsubscribe":true}},
        "anonymousGroup":"all","groups":[{{"groupname":"all","roles":[{{"rolename":"all"}}]}}],"clients":[],"roles":[{{"rolename":"all",
        "acls":[{{"acltype":"publishClientSend","topic":"$CONTROL/dynamic-security/#","allow":true}}{always}]}}]}}"#
    );
    std::fs::write(&file, rules).unwrap();
    Mosquitto::start(&format!("plugin {}\nplugin_opt_config_file {}\n", library.display(), file.display()))
}

/// Allows every client to subscribe to anything, or again only to what is always allowed.
pub fn allow_all(broker: &Mosquitto, allow: bool) {
    let command = format!(
        r#"{{"commands":[{{"command":"setDefaultACLAccess","acls":[{{"acltype":"subscribe","allow":{allow}}}]}}]}}"#
    );
    Single::connect(broker.port()).publish("$CONTROL/dynamic-security/v1", command.as_bytes(), 1);
}
