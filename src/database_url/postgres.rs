//! A PostgreSQL URL: what libpq gets, and what people see of it.

use std::fmt;
use std::net::IpAddr;

use super::libpq;

/// Takes the place of a secret.
const REDACTED: &str = "***";
/// Parameters of the query that are secret.
const SECRET_PARAMETERS: [&str; 2] = ["password", "sslpassword"];
/// The modes in which libpq never falls back to plain text.
const ENCRYPTED: [&str; 3] = ["require", "verify-ca", "verify-full"];
/// A piece of a password that is shorter than this is in too many words to be replaced in them.
const PIECE_BYTES_MIN: usize = 3;

/// A URL that libpq can read. `Display` and `Debug` show it without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// Wraps a URL that was checked.
    pub(super) const fn new(url: String) -> Self {
        Self(url)
    }

    /// Returns the whole URL, password included.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the URL with each of `parameters` that it does not set itself.
    #[must_use]
    pub fn with_defaults(&self, parameters: &[(&str, String)]) -> String {
        let mut url = self.0.clone();
        for (name, value) in parameters {
            if !self.sets(name) {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={value}"));
            }
        }
        url
    }

    /// True if a password stands in it.
    pub(super) fn has_password(&self) -> bool {
        let parameters = libpq::parse(&self.0).unwrap_or_default();
        SECRET_PARAMETERS.iter().any(|name| parameters.get(*name).is_some_and(Option::is_some))
    }

    /// Returns a host on the network to which the connection may not be encrypted. `ssl_mode` is the mode of the environment
    /// (`PGSSLMODE`), which counts if the URL sets none; libpq's default encrypts only if the server offers it.
    pub(super) fn unencrypted_host(&self, ssl_mode: Option<&str>) -> Option<String> {
        let parameters = libpq::parse(&self.0)?;
        let value =
            |name: &str| parameters.get(name).and_then(Option::as_deref).filter(|text| !text.is_empty());
        let has_system_roots = value("sslrootcert") == Some("system");
        let is_encrypted = value("sslmode").or(ssl_mode).is_some_and(|mode| ENCRYPTED.contains(&mode))
            || value("gssencmode") == Some("require")
            || (has_system_roots && value("sslmode").is_none());
        // An address decides where libpq connects; the host beside it is only a name.
        let hosts = value("hostaddr").or_else(|| value("host")).unwrap_or_default();
        hosts.split(',').find(|host| !is_encrypted && !is_this_computer(host)).map(str::to_owned)
    }

    fn sets(&self, name: &str) -> bool {
        self.query().split('&').any(|parameter| parameter.split('=').next() == Some(name))
    }

    fn query(&self) -> &str {
        self.0.split_once('?').map_or("", |(_, query)| query)
    }

    fn after_scheme(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, rest)| rest)
    }

    /// Removes every piece of the password from `message`: libpq quotes a URL that it cannot read.
    #[must_use]
    pub fn redact(&self, message: &str) -> String {
        let user_info = self.after_scheme().rsplit_once('@').map(|(user_info, _)| user_info);
        let in_user_info = user_info.and_then(|user_info| user_info.split_once(':'));
        let in_query = self.query().split('&').filter_map(|parameter| parameter.split_once('='));
        let secrets = in_query
            .filter(|(name, _)| SECRET_PARAMETERS.contains(name))
            .chain(in_user_info)
            .map(|(_, secret)| secret);
        // libpq ends a malformed password at any of these, and quotes the pieces.
        let pieces = secrets
            .flat_map(|secret| secret.split(['@', '/', '?', '#', ':']))
            .filter(|piece| piece.len() >= PIECE_BYTES_MIN);
        pieces.fold(message.to_owned(), |text, piece| text.replace(piece, REDACTED))
    }

    /// Returns the URL without its password, for a command line that a person can run.
    #[must_use]
    pub fn without_password(&self) -> String {
        let shown = self.to_string().replace(&format!(":{REDACTED}@"), "@");
        let (location, query) = shown.split_once('?').unwrap_or((&shown, ""));
        let hidden = format!("={REDACTED}");
        let kept: Vec<&str> = query
            .split('&')
            .filter(|parameter| !parameter.is_empty() && !parameter.ends_with(&hidden))
            .collect();
        if kept.is_empty() { location.to_owned() } else { format!("{location}?{}", kept.join("&")) }
    }

    /// Says for logs and status where the server is, without credentials.
    #[must_use]
    pub fn place(&self) -> String {
        let rest = self.after_scheme();
        // The last @ ends the user info, however badly the password is escaped, unless it stands in the query's
        // password.
        let is_secret_in_query = SECRET_PARAMETERS.iter().any(|name| self.sets(name));
        let shown = if is_secret_in_query { rest.split('?').next().unwrap_or("") } else { rest };
        let place = shown.rsplit_once('@').map_or(shown, |(_, place)| place);
        let place = self.redact(place.split('?').next().unwrap_or(""));
        let host = self.query().split('&').find_map(|parameter| parameter.strip_prefix("host="));
        format!("PostgreSQL at {}{place}", host.unwrap_or_default())
    }
}

/// A socket has a path, or begins with @; no host at all is the default socket.
fn is_this_computer(host: &str) -> bool {
    let is_socket = host.is_empty() || host.starts_with(['/', '@']);
    is_socket || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for PostgresUrl {
    /// Hides rather too much than too little: people forget to percent-encode, so everything from the first `:` after
    /// the scheme to the last `@` counts as the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split_once("://").map_or("", |(scheme, _)| scheme);
        let rest = self.after_scheme();
        let user_and_place = rest.rsplit_once('@').and_then(|(user_info, place)| {
            user_info.split_once(':').map(|(user, _)| format!("{user}:{REDACTED}@{place}"))
        });
        let shown = user_and_place.unwrap_or_else(|| rest.to_owned());
        let (location, query) = shown.split_once('?').unwrap_or((&shown, ""));
        write!(f, "{scheme}://{location}")?;
        for (index, parameter) in query.split('&').filter(|_| !query.is_empty()).enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            match parameter.split_once('=') {
                Some((name, _)) if name.to_ascii_lowercase().contains("pass") => {
                    write!(f, "{name}={REDACTED}")?;
                }
                _ => f.write_str(parameter)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(url: &str) -> PostgresUrl {
        PostgresUrl::new(url.to_owned())
    }

    #[test]
    fn parameters_of_the_user_are_kept_and_ours_added() {
        let defaults = [("connect_timeout", "5".to_owned()), ("application_name", "andon".to_owned())];
        assert_eq!(
            postgres("postgres://h/d").with_defaults(&defaults),
            "postgres://h/d?connect_timeout=5&application_name=andon"
        );
        assert_eq!(
            postgres("postgres://h/d?connect_timeout=60").with_defaults(&defaults),
            "postgres://h/d?connect_timeout=60&application_name=andon"
        );
    }

    #[test]
    fn a_host_on_the_network_wants_an_encrypted_connection() {
        for (url, environment, expected) in [
            ("postgres://u:p@db/plant", None, Some("db")),
            ("postgres://u@192.0.2.1:5433/plant?sslmode=prefer", None, Some("192.0.2.1")),
            ("postgres://u@db/plant?sslmode=disable", Some("require"), Some("db")),
            ("postgres://localhost,db2/plant", None, Some("db2")),
            ("postgres://localhost/plant?hostaddr=192.0.2.1", None, Some("192.0.2.1")),
            ("postgres://[2001:db8::1]/plant", Some("allow"), Some("2001:db8::1")),
            ("postgres://db/plant?sslmode=require", None, None),
            ("postgres://db/plant?sslmode=verify-ca", None, None),
            ("postgres://db/plant?sslmode=verify-full", None, None),
            ("postgres://db/plant?ssl=true", None, None),
            ("postgres://db/plant?sslrootcert=system", None, None),
            ("postgres://db/plant?gssencmode=require", None, None),
            ("postgres://db/plant", Some("verify-full"), None),
            ("postgres:///plant", None, None),
            ("postgres:///plant?host=/run/postgresql", None, None),
            ("postgres://%2Frun%2Fpostgresql/plant", None, None),
            ("postgres://localhost,127.0.0.2,[::1]/plant", None, None),
        ] {
            assert_eq!(postgres(url).unencrypted_host(environment).as_deref(), expected, "{url}");
        }
    }

    /// Proves CFG-4.
    #[test]
    fn a_url_for_other_programs_has_no_password() {
        for (url, expected) in [
            (
                "postgres://andon:s3@cret@db/plant?sslmode=require",
                "postgres://andon@db/plant?sslmode=require",
            ),
            ("postgres://db/plant?password=s3cret&sslmode=require", "postgres://db/plant?sslmode=require"),
            ("postgres://andon@/plant?host=/run/x", "postgres://andon@/plant?host=/run/x"),
            ("postgres:///plant?password=s3cret", "postgres:///plant"),
        ] {
            assert_eq!(postgres(url).without_password(), expected);
        }
    }

    /// Proves CFG-4.
    #[test]
    fn no_piece_of_a_password_is_shown_however_badly_it_is_escaped() {
        for url in
            ["postgres://u:sec@ret/%20wor?d@db:5432/plant", "postgres://u@db/plant?password=sec@ret/%20wor"]
        {
            let url = postgres(url);
            let message = url.redact("could not translate host name \"ret\", port \"%20wor\" sec");
            for shown in [url.place(), message] {
                for piece in ["sec", "\"ret", "wor"] {
                    assert!(!shown.contains(piece), "{piece} in {shown}");
                }
            }
            assert!(url.place().contains("db"), "{}", url.place());
        }
        let url = postgres("postgres://andon:s3@c/r:et@db/andon");
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://andon:***@db/andon \"postgres://andon:***@db/andon\""
        );
    }
}
