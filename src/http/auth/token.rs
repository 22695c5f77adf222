//! Which token or session a request carries. Compares in constant time: digests of equal length, `openssl::memcmp`.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use openssl::error::ErrorStack;

use super::session::{Lifetime, Session, SessionKey, SiteKey, keyed_digest};
use crate::domain::Role;

/// Prefix of the cookie's name; the site follows.
const COOKIE: &str = "andon-";

/// A token and what it allows.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    /// Who holds it.
    pub name: &'a str,
    /// What it allows.
    pub roles: &'a [Role],
    /// The text that clients send.
    pub secret: &'a str,
}

/// Checks tokens and cookies. Keeps digests of the tokens, never the tokens themselves.
#[derive(Clone)]
pub struct TokenCheck {
    known: Vec<KnownToken>,
    pub(super) cookie_name: String,
    key: Vec<u8>,
}

/// What is kept of a token.
#[derive(Clone)]
pub(super) struct KnownToken {
    name: String,
    roles: Vec<Role>,
    digest: Vec<u8>,
    pub(super) session_key: SessionKey,
}

impl KnownToken {
    fn new(site: &str, site_key: &SiteKey, token: &Token<'_>, key: &[u8]) -> Result<Self, ErrorStack> {
        Ok(Self {
            name: token.name.to_owned(),
            roles: token.roles.to_vec(),
            digest: keyed_digest(key, token.secret.as_bytes())?,
            session_key: SessionKey::new(site, site_key, token)?,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn allows(&self, needed: Role) -> bool {
        self.roles.iter().any(|role| role.allows(needed))
    }

    pub(super) fn lifetime(&self, session_max: Duration) -> Lifetime {
        Lifetime::of(&self.roles, session_max)
    }
}

impl TokenCheck {
    pub(super) fn new(site: &str, site_key: &SiteKey, tokens: &[Token<'_>]) -> Result<Self, ErrorStack> {
        let mut key = vec![0; 32];
        openssl::rand::rand_bytes(&mut key)?;
        let known = tokens.iter().map(|token| KnownToken::new(site, site_key, token, &key));
        Ok(Self { known: known.collect::<Result<_, _>>()?, cookie_name: cookie_name(site), key })
    }

    /// Finds the token that a client has sent.
    pub(super) fn find(&self, given: &[u8]) -> Option<&KnownToken> {
        let digest = keyed_digest(&self.key, given).ok()?;
        self.known.iter().find(|known| openssl::memcmp::eq(&digest, &known.digest))
    }

    /// Finds the session whose cookie a request carries, and the token that it was opened with. It may be over.
    pub(super) fn session_of(&self, request: &HttpRequest) -> Option<(&KnownToken, Session)> {
        let cookie = request.cookie(&self.cookie_name)?;
        let cookie = cookie.value();
        let known = self.known.iter().find(|known| known.session_key.is_named_in(cookie))?;
        Some((known, known.session_key.read(cookie)?))
    }
}

/// Returns the token that a request carries as `Authorization: Bearer`.
pub(super) fn bearer(request: &HttpRequest) -> Option<&[u8]> {
    let value = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Returns the name of the site's cookie. Replaces characters that a cookie's name must not contain.
pub(super) fn cookie_name(site: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    format!("{COOKIE}{}", site.chars().map(allowed).collect::<String>())
}

#[cfg(test)]
mod tests {
    use actix_web::cookie::Cookie;
    use actix_web::test::TestRequest;

    use super::*;
    use crate::clock::wall_now;

    const SITE_KEY: SiteKey = SiteKey([7; 32]);

    fn check() -> TokenCheck {
        let roles = &[Role::View, Role::Metrics];
        TokenCheck::new("hall-3", &SITE_KEY, &[Token { name: "http.token", roles, secret: "s3cret" }])
            .unwrap()
    }

    fn cookie_of(known: &KnownToken) -> String {
        known.session_key.cookie(&Session::open(&known.session_key, wall_now())).unwrap()
    }

    #[test]
    fn nothing_but_the_exact_token_passes() {
        let check = check();
        assert!(check.find(b"s3cret").is_some());
        for wrong in ["", "s3cre", "s3cret ", "S3cret", "s3cret\0"] {
            assert!(check.find(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        let with = |value: &str| {
            let request =
                TestRequest::default().insert_header((header::AUTHORIZATION, value)).to_http_request();
            bearer(&request).is_some_and(|token| check.find(token).is_some())
        };
        assert!(with("Bearer s3cret") && with("bearer   s3cret"));
        for wrong in ["s3cret", "Basic s3cret", "Bearer", "Bearer ", "Bearer s3cret2", "Bearers3cret"] {
            assert!(!with(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_session_is_found_by_the_cookie_of_this_site_only() {
        let check = check();
        let cookie = cookie_of(&check.known[0]);
        let with = |name: &'static str, value: &str| {
            let request = TestRequest::default().cookie(Cookie::new(name, value.to_owned()));
            check.session_of(&request.to_http_request()).is_some()
        };
        assert!(with("andon-hall-3", &cookie));
        assert!(!with("andon-hall-3", "s3cret"));
        assert!(!with("andon-hall-4", &cookie), "the cookie of another site on this host");
    }

    #[test]
    fn the_cookie_is_named_after_the_site_and_fits_into_a_header() {
        assert_eq!(cookie_name("hall-3.north"), "andon-hall-3.north");
        assert_eq!(cookie_name("a;b=c\r\n é"), "andon-a_b_c____");
    }

    #[test]
    fn each_token_is_found_by_its_own_text_and_cookie_and_allows_its_roles_only() {
        let named = |name, roles, secret| Token { name, roles, secret };
        let tokens = [
            named("board", &[Role::View][..], "one"),
            named("prometheus", &[Role::Metrics][..], "two"),
            named("shift lead", &[Role::Operate][..], "three"),
        ];
        let check = TokenCheck::new("hall-3", &SITE_KEY, &tokens).unwrap();
        for token in tokens {
            let found = check.find(token.secret.as_bytes()).unwrap();
            assert_eq!((found.name(), found.allows(Role::View)), (token.name, token.name != "prometheus"));
            assert_eq!(found.allows(Role::Operate), token.name == "shift lead");
            let request = TestRequest::default()
                .cookie(Cookie::new("andon-hall-3", cookie_of(found)))
                .to_http_request();
            assert_eq!(check.session_of(&request).map(|(known, _)| known.name()), Some(token.name));
        }
    }
}
