//! Checks of the token and the cookie, in constant time: digests of equal length, `openssl::memcmp`.

use actix_web::HttpRequest;
use actix_web::http::header;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

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
    pub(super) cookie: String,
}

impl KnownToken {
    fn new(site: &str, token: &Token<'_>, key: &[u8]) -> Result<Self, openssl::error::ErrorStack> {
        let cookie = keyed_digest(token.secret.as_bytes(), format!("andon board {site}").as_bytes())?;
        Ok(Self {
            name: token.name.to_owned(),
            roles: token.roles.to_vec(),
            digest: keyed_digest(key, token.secret.as_bytes())?,
            cookie: cookie.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn allows(&self, needed: Role) -> bool {
        self.roles.iter().any(|role| role.allows(needed))
    }

    fn is_cookie(&self, given: &str) -> bool {
        given.len() == self.cookie.len() && openssl::memcmp::eq(given.as_bytes(), self.cookie.as_bytes())
    }
}

impl TokenCheck {
    pub(super) fn new(site: &str, tokens: &[Token<'_>]) -> Result<Self, openssl::error::ErrorStack> {
        let mut key = vec![0; 32];
        openssl::rand::rand_bytes(&mut key)?;
        let known =
            tokens.iter().map(|token| KnownToken::new(site, token, &key)).collect::<Result<_, _>>()?;
        Ok(Self { known, cookie_name: cookie_name(site), key })
    }

    /// Finds the token that a client has sent.
    pub(super) fn find(&self, given: &[u8]) -> Option<&KnownToken> {
        let digest = keyed_digest(&self.key, given).ok()?;
        self.known.iter().find(|known| openssl::memcmp::eq(&digest, &known.digest))
    }

    /// Finds the token whose cookie a request carries.
    pub(super) fn of_cookie(&self, request: &HttpRequest) -> Option<&KnownToken> {
        let cookie = request.cookie(&self.cookie_name)?;
        self.known.iter().find(|known| known.is_cookie(cookie.value()))
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

fn keyed_digest(key: &[u8], text: &[u8]) -> Result<Vec<u8>, openssl::error::ErrorStack> {
    let key = PKey::hmac(key)?;
    Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(text)
}

#[cfg(test)]
mod tests {
    use actix_web::cookie::Cookie;
    use actix_web::test::TestRequest;

    use super::*;

    fn check_of(site: &str, secret: &str) -> TokenCheck {
        let roles = &[Role::View, Role::Metrics];
        TokenCheck::new(site, &[Token { name: "http.token", roles, secret }]).unwrap()
    }

    fn check() -> TokenCheck {
        check_of("hall-3", "s3cret")
    }

    fn cookie_of(check: &TokenCheck) -> String {
        check.known[0].cookie.clone()
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
    fn the_cookie_is_not_the_token_and_outlives_a_restart_but_not_another_token_or_site() {
        let cookie = cookie_of(&check());
        assert!(!cookie.contains("s3cret"));
        assert!(check().known[0].is_cookie(&cookie));
        for other in [check_of("hall-3", "other"), check_of("hall-4", "s3cret")] {
            assert!(!other.known[0].is_cookie(&cookie));
        }
        let with = |name: &'static str, value: &str| {
            let request = TestRequest::default().cookie(Cookie::new(name, value.to_owned()));
            check().of_cookie(&request.to_http_request()).is_some()
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
        let check = TokenCheck::new("hall-3", &tokens).unwrap();
        for token in tokens {
            let found = check.find(token.secret.as_bytes()).unwrap();
            assert_eq!((found.name(), found.allows(Role::View)), (token.name, token.name != "prometheus"));
            assert_eq!(found.allows(Role::Operate), token.name == "shift lead");
            let request = TestRequest::default()
                .cookie(Cookie::new("andon-hall-3", found.cookie.clone()))
                .to_http_request();
            assert_eq!(check.of_cookie(&request).map(KnownToken::name), Some(token.name));
        }
    }
}
