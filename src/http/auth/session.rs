//! The session of a browser: what its cookie says, and when it is over. Pure.
//!
//! The cookie is `v1.<token>.<session>.<issued>.<mac>`: which token it was opened with (a digest), a random UUID, Unix
//! milliseconds, and a code over the three that only this site can make. The key of that code is made from the key of the
//! site, and from name, text and roles of the token: whoever changes one of these ends the sessions. Nothing in it tells
//! the token.
//!
//! A session lasts `http.session_max`, counted from when its cookie was issued; one that may change something lasts at most
//! [`OPERATE_MAX`]. The others slide: a page that comes with a cookie older than a tenth of that gets a fresh one of the
//! same session, so that a wall screen stays for months. A cookie from the future is judged like one from the past: a clock
//! that was set back by days must not make it last for years.

use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use uuid::Uuid;

use super::token::Token;
use crate::domain::{Role, Timestamp};

const VERSION: &str = "v1";
/// How long the session of a token with the role `operate` lasts at most. It does not slide.
pub const OPERATE_MAX: Duration = Duration::from_secs(12 * 3_600);

/// The key of the site: random, and kept beside the journal.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteKey(pub(super) [u8; 32]);

impl SiteKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self, ErrorStack> {
        let mut key = [0; 32];
        openssl::rand::rand_bytes(&mut key)?;
        Ok(Self(key))
    }
}

/// A session, as a valid cookie describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Which token it was opened with.
    pub token: String,
    /// Which session of that token.
    pub id: Uuid,
    /// When this cookie was issued.
    pub issued: Timestamp,
}

impl Session {
    /// Opens one.
    pub(super) fn open(key: &SessionKey, now: Timestamp) -> Self {
        Self { token: key.token.clone(), id: Uuid::new_v4(), issued: now }
    }

    /// True while it lasts.
    pub(super) fn lasts(&self, lifetime: Lifetime, now: Timestamp) -> bool {
        self.age(now) <= lifetime.max
    }

    /// True if its cookie should be replaced by a fresh one.
    pub(super) fn should_slide(&self, lifetime: Lifetime, now: Timestamp) -> bool {
        lifetime.slides && self.age(now) > lifetime.max / 10
    }

    /// Returns when it is over, unless it slides until then.
    pub fn until(&self, lifetime: Lifetime) -> Timestamp {
        self.issued.plus(lifetime.max)
    }

    fn age(&self, now: Timestamp) -> Duration {
        now.since(self.issued).max(self.issued.since(now))
    }
}

/// How long sessions of a token last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Since the cookie was issued.
    pub max: Duration,
    /// Those in use get a fresh cookie.
    pub slides: bool,
}

impl Lifetime {
    /// Returns the lifetime by `http.session_max`.
    pub fn of(roles: &[Role], session_max: Duration) -> Self {
        if roles.contains(&Role::Operate) {
            Self { max: session_max.min(OPERATE_MAX), slides: false }
        } else {
            Self { max: session_max, slides: true }
        }
    }
}

/// Makes and checks the cookies of one token.
#[derive(Clone)]
pub(super) struct SessionKey {
    token: String,
    key: Vec<u8>,
}

impl SessionKey {
    pub(super) fn new(site: &str, site_key: &SiteKey, token: &Token<'_>) -> Result<Self, ErrorStack> {
        let roles: Vec<&str> = token.roles.iter().map(|role| role.as_str()).collect();
        let mut source = Vec::new();
        // With their lengths, so that no two tokens have the same source.
        for part in [site, token.name, &roles.join(" "), token.secret] {
            source.extend_from_slice(&(part.len() as u64).to_be_bytes());
            source.extend_from_slice(part.as_bytes());
        }
        let key = keyed_digest(&site_key.0, &source)?;
        let token = hex(&keyed_digest(&key, b"token")?[..8]);
        Ok(Self { token, key })
    }

    /// True if the cookie names this token.
    pub(super) fn is_named_in(&self, cookie: &str) -> bool {
        cookie.split('.').nth(1) == Some(self.token.as_str())
    }

    /// Returns the cookie of a session.
    pub(super) fn cookie(&self, session: &Session) -> Result<String, ErrorStack> {
        self.signed(&session.id.simple().to_string(), &(session.issued.as_micros() / 1_000).to_string())
    }

    /// Reads a cookie, if it is one of this token, and unchanged.
    pub(super) fn read(&self, cookie: &str) -> Option<Session> {
        let mut parts = cookie.split('.').skip(2);
        let (id, issued) = (parts.next()?, parts.next()?);
        let signed = self.signed(id, issued).ok()?;
        if signed.len() != cookie.len() || !openssl::memcmp::eq(signed.as_bytes(), cookie.as_bytes()) {
            return None;
        }
        let issued = Timestamp::from_micros(issued.parse::<i64>().ok()?.checked_mul(1_000)?);
        Some(Session { token: self.token.clone(), id: Uuid::try_parse(id).ok()?, issued })
    }

    fn signed(&self, id: &str, issued: &str) -> Result<String, ErrorStack> {
        let signed = format!("{VERSION}.{}.{id}.{issued}", self.token);
        let mac = hex(&keyed_digest(&self.key, signed.as_bytes())?);
        Ok(format!("{signed}.{mac}"))
    }
}

/// Returns the HMAC-SHA256.
pub(super) fn keyed_digest(key: &[u8], text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key)?;
    Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE_KEY: SiteKey = SiteKey([7; 32]);
    const TOKEN: Token<'static> = Token { name: "board", roles: &[Role::View], secret: "s3cret" };

    fn key(site: &str, token: &Token<'_>) -> SessionKey {
        SessionKey::new(site, &SITE_KEY, token).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_790_000_000 + seconds) * 1_000_000)
    }

    #[test]
    fn a_cookie_reads_back_and_tells_nothing_of_the_token() {
        let key = key("hall-3", &TOKEN);
        let session = Session::open(&key, at(0));
        let cookie = key.cookie(&session).unwrap();
        assert_eq!(key.read(&cookie), Some(session.clone()));
        assert!(key.is_named_in(&cookie) && !cookie.contains("s3cret"), "{cookie}");
        assert!(cookie.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'), "{cookie}");
        assert_ne!(Session::open(&key, at(0)).id, session.id);
    }

    #[test]
    fn another_site_key_site_name_text_or_role_ends_the_session() {
        let mine = key("hall-3", &TOKEN);
        let cookie = mine.cookie(&Session::open(&mine, at(0))).unwrap();
        assert!(key("hall-3", &TOKEN).read(&cookie).is_some(), "not a restart");
        let others = [
            key("hall-4", &TOKEN),
            SessionKey::new("hall-3", &SiteKey([8; 32]), &TOKEN).unwrap(),
            key("hall-3", &Token { name: "boarD", ..TOKEN }),
            key("hall-3", &Token { secret: "s3cret2", ..TOKEN }),
            key("hall-3", &Token { roles: &[Role::Operate], ..TOKEN }),
            key("hall-3", &Token { roles: &[Role::View, Role::Metrics], ..TOKEN }),
            // The same letters, cut in another place.
            key("hall-3b", &Token { name: "oard", ..TOKEN }),
        ];
        for other in others {
            assert!(other.read(&cookie).is_none() && !other.is_named_in(&cookie));
        }
    }

    #[test]
    fn no_changed_cookie_is_read() {
        let key = key("hall-3", &TOKEN);
        let cookie = key.cookie(&Session::open(&key, at(0))).unwrap();
        for place in 0..cookie.len() {
            for with in [".", "0", "1", "f", "F", "-", " ", ""] {
                let mut changed = cookie.clone();
                changed.replace_range(place..=place, with);
                assert!(changed == cookie || key.read(&changed).is_none(), "{changed}");
            }
            assert!(key.read(&cookie[..place]).is_none() && key.read(&cookie[place + 1..]).is_none());
        }
        for more in [format!("{cookie}."), format!("{cookie}0"), format!(" {cookie}"), cookie.to_uppercase()]
        {
            assert!(key.read(&more).is_none(), "{more}");
        }
    }

    #[test]
    fn a_session_lasts_its_time_and_slides_after_a_tenth_of_it() {
        let key = key("hall-3", &TOKEN);
        let session = Session::open(&key, at(0));
        let week = Duration::from_secs(7 * 86_400);
        let view = Lifetime::of(&[Role::View, Role::Metrics], week);
        let operate = Lifetime::of(&[Role::Operate], week);
        for (now, lasts, slides) in [
            (0, true, false),
            (60_480, true, false),
            (60_481, true, true),
            (604_800, true, true),
            (604_801, false, true),
            // A clock that was set back.
            (-60_480, true, false),
            (-604_800, true, true),
            (-604_801, false, true),
        ] {
            assert_eq!(
                (session.lasts(view, at(now)), session.should_slide(view, at(now))),
                (lasts, slides),
                "{now}"
            );
        }
        for (now, lasts) in [(43_200, true), (43_201, false)] {
            assert_eq!(
                (session.lasts(operate, at(now)), session.should_slide(operate, at(now))),
                (lasts, false)
            );
        }
        assert_eq!(session.until(operate), at(43_200));
        let minute = Duration::from_secs(60);
        assert_eq!(Lifetime::of(&[Role::Operate], minute).max, minute, "never longer than the others");
    }
}
