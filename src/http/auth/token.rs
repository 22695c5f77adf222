//! Checks of the token and the cookie, in constant time: digests of equal length, `openssl::memcmp`.

use actix_web::HttpRequest;
use actix_web::http::header;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// Prefix of the cookie's name; the site follows.
const COOKIE: &str = "andon-";

/// Checks tokens and cookies. Keeps digests of the token, never the token itself.
#[derive(Clone)]
pub struct TokenCheck {
    token: Vec<u8>,
    pub(super) cookie_name: String,
    pub(super) cookie: String,
    key: Vec<u8>,
}

impl TokenCheck {
    pub(super) fn new(site: &str, token: &str) -> Result<Self, openssl::error::ErrorStack> {
        let mut key = vec![0; 32];
        openssl::rand::rand_bytes(&mut key)?;
        let cookie = keyed_digest(token.as_bytes(), format!("andon board {site}").as_bytes())?;
        let cookie = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { token: keyed_digest(&key, token.as_bytes())?, cookie_name: cookie_name(site), cookie, key })
    }

    pub(super) fn is_token(&self, given: &[u8]) -> bool {
        keyed_digest(&self.key, given).is_ok_and(|digest| openssl::memcmp::eq(&digest, &self.token))
    }

    fn is_cookie(&self, given: &str) -> bool {
        given.len() == self.cookie.len() && openssl::memcmp::eq(given.as_bytes(), self.cookie.as_bytes())
    }

    pub(super) fn admits(&self, request: &HttpRequest) -> bool {
        let bearer = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
        let bearer = bearer.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
        });
        match bearer {
            Some(token) => self.is_token(token),
            None => request.cookie(&self.cookie_name).is_some_and(|cookie| self.is_cookie(cookie.value())),
        }
    }
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

    fn check() -> TokenCheck {
        TokenCheck::new("hall-3", "s3cret").unwrap()
    }

    #[test]
    fn nothing_but_the_exact_token_passes() {
        let check = check();
        assert!(check.is_token(b"s3cret"));
        for wrong in ["", "s3cre", "s3cret ", "S3cret", "s3cret\0"] {
            assert!(!check.is_token(wrong.as_bytes()), "{wrong:?}");
        }
        let with = |value: &str| {
            let request =
                TestRequest::default().insert_header((header::AUTHORIZATION, value)).to_http_request();
            check.admits(&request)
        };
        assert!(with("Bearer s3cret") && with("bearer   s3cret"));
        for wrong in ["s3cret", "Basic s3cret", "Bearer", "Bearer ", "Bearer s3cret2", "Bearers3cret"] {
            assert!(!with(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_cookie_is_not_the_token_and_outlives_a_restart_but_not_another_token_or_site() {
        let cookie = check().cookie;
        assert!(!cookie.contains("s3cret"));
        assert!(check().is_cookie(&cookie));
        for other in
            [TokenCheck::new("hall-3", "other").unwrap(), TokenCheck::new("hall-4", "s3cret").unwrap()]
        {
            assert!(!other.is_cookie(&cookie));
        }
        let with = |name: &'static str, value: &str| {
            let request = TestRequest::default().cookie(Cookie::new(name, value.to_owned()));
            check().admits(&request.to_http_request())
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
    fn a_wrong_bearer_token_fails_despite_a_valid_cookie() {
        let request = TestRequest::default()
            .cookie(Cookie::new("andon-hall-3", check().cookie))
            .insert_header((header::AUTHORIZATION, "Bearer wrong"));
        assert!(!check().admits(&request.to_http_request()));
    }
}
