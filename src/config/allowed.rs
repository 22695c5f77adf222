//! What is allowed as the value of a key, in words: for complaints, and for the documentation.

use super::keys::{
    FIELDS, HOSTS_MAX, Key, Kind, LAST_WILL, LIST_MAX, LISTED_TEXT_BYTES_MAX, MACHINE, SEGMENT_MAX,
    SITE_ID_CHARS_MAX, SUBSCRIPTION, TOKEN, TOPIC_PREFIX_BYTES_MAX,
};
use super::units::show_size;
use crate::database_url::SchemaName;
use crate::domain::duration_text;

fn names(keys: &[Key]) -> String {
    keys.iter().map(|key| key.path).collect::<Vec<_>>().join(", ")
}

impl Kind {
    /// Says what is allowed; the text follows "expected".
    pub(super) fn allowed(self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Segment => format!("a whole number from -{SEGMENT_MAX} to {SEGMENT_MAX}, not 0"),
            Self::Duration { min, max, whole_seconds } => {
                let whole = if whole_seconds { " in whole seconds" } else { "" };
                let (min, max) = (duration_text::exact(min), duration_text::exact(max));
                format!("a duration{whole} from {min} to {max}, such as \"15s\"")
            }
            Self::Size { min, max } => {
                format!("a size from {} to {}, such as \"64MiB\"", show_size(min), show_size(max))
            }
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Self::Text { bytes_max } => {
                format!("text of at most {bytes_max} bytes without control characters")
            }
            Self::Secret => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::ReadableFile => "the path of a readable file".to_owned(),
            Self::SiteId => format!("1 to {SITE_ID_CHARS_MAX} characters of a-z, 0-9, \"_\", \"-\" and \".\""),
            Self::Host => "a host name or an IP address, without scheme and port".to_owned(),
            Self::HostAndPort { port_required: true } => {
                "a host name or an IP address with port, such as \"proxy:3128\" or \"[::1]:3128\"".to_owned()
            }
            Self::HostAndPort { port_required: false } => {
                "a host name or an IP address, with or without port, such as \"broker:1883\" or \"[::1]:1883\""
                    .to_owned()
            }
            Self::Hosts => {
                format!("a list of at most {HOSTS_MAX} hosts, with or without port, such as [\"broker-a\", \"broker-b:1883\"]")
            }
            Self::Address => "an IP address with port, such as \"127.0.0.1:8080\"".to_owned(),
            Self::ListenAddress => {
                "an IP address with port, such as \"127.0.0.1:9100\", or \"unix:\" with an absolute path of at most 107 bytes"
                    .to_owned()
            }
            Self::TimeZone => "a name of the IANA time zone database, such as \"Europe/Berlin\"".to_owned(),
            Self::DatabaseUrl => "\"sqlite://<path>\" or \"postgres://<user>@<host>/<database>\"".to_owned(),
            Self::SchemaName => SchemaName::ALLOWED.to_owned(),
            Self::LogLevels => {
                "error, warn, info, debug or trace, also by component, such as \"info,mqtt=debug\"".to_owned()
            }
            Self::TopicPrefix => {
                format!(
                    "topic levels without \"+\", \"#\" and control characters, not beginning with \"$\" or \"/\", not ending with \
                     \"/\", at most {TOPIC_PREFIX_BYTES_MAX} bytes"
                )
            }
            Self::TopicFilter => "an MQTT topic filter".to_owned(),
            Self::JsonPointer => "a JSON pointer, such as \"/sensors/t\"".to_owned(),
            Self::Network => "an IP address, or a range such as \"10.0.0.0/24\"".to_owned(),
            Self::Networks => {
                format!("a list of at most {LIST_MAX} IP addresses, or ranges such as \"10.0.0.0/24\"")
            }
            Self::HeaderName => {
                "the name of an HTTP header that carries nothing else, such as \"X-Remote-User\"".to_owned()
            }
            Self::Texts => format!("a list of texts of 1 to {LISTED_TEXT_BYTES_MAX} bytes"),
            Self::Subscriptions => {
                format!("a list of 1 to {LIST_MAX} topic filters, or of tables with {}", names(SUBSCRIPTION))
            }
            Self::LastWills => {
                format!("a list of at most {LIST_MAX} tables with {}", names(LAST_WILL))
            }
            Self::Tokens => format!("a list of at most {LIST_MAX} tables with {}", names(TOKEN)),
            Self::Fields => {
                format!("a table with a JSON pointer for any of {}", FIELDS.join(", "))
            }
            Self::Machines => format!("a table for each machine id, with {}", names(MACHINE)),
        }
    }
}
