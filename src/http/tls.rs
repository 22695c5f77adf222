//! TLS of the HTTP listener: the certificate in use, and its replacement while Andon serves.
//!
//! The files are read at the start, at a reload, and when they have changed on the disk. Each new connection takes the
//! newest; those that are open keep theirs. Files that do not go together, as while they are being written, change
//! nothing: that is said once, and looked at again when they change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use slog::{Logger, info, o, warn};

use crate::clock::{Mono, mono_now, wall_now};
use crate::logging::causes;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long before its end a certificate is warned about, and how often.
const WARN_AHEAD_SECONDS: i64 = 30 * 86_400;
const WARN_INTERVAL: Duration = Duration::from_secs(86_400);
/// HTTP/1.1, as ALPN writes it.
const HTTP_1_1: &[u8] = b"\x08http/1.1";

/// `http.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with its chain.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Who must have signed the certificate that a client then needs.
    pub client_ca_file: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of them cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// No certificate in PEM.
    #[error("{} has no certificate in PEM format (-----BEGIN CERTIFICATE-----)", .0.display())]
    NoCertificate(PathBuf),
    /// No private key in PEM, or an encrypted one.
    #[error("{} has no private key in PEM format that can be read without a passphrase", .0.display())]
    NoKey(PathBuf, #[source] ErrorStack),
    /// The key is another certificate's.
    #[error("the private key in {} does not belong to the certificate in {}", .key.display(), .cert.display())]
    Mismatch {
        /// `http.tls.cert_file`
        cert: PathBuf,
        /// `http.tls.key_file`
        key: PathBuf,
    },
    /// OpenSSL refuses them.
    #[error("OpenSSL refuses the certificate in {}", .0.display())]
    Refused(PathBuf, #[source] ErrorStack),
}

/// What a look at the files' metadata shows: modified, inode, size.
type Stamps = Vec<Option<(i64, i64, u64, u64)>>;

struct State {
    acceptor: SslAcceptor,
    /// Of the last files that were read, good or bad.
    stamps: Stamps,
    looked_at: Mono,
    is_looking: bool,
    warned_at: Option<Mono>,
}

/// The certificate in use.
pub struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
    not_after: AtomicI64,
    failed_handshakes: AtomicU64,
    logger: Logger,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be read, or do not go together.
    pub fn open(files: TlsFiles, logger: &Logger) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let (acceptor, not_after) = load(&files)?;
        let state = State { acceptor, stamps, looked_at: mono_now(), is_looking: false, warned_at: None };
        let tls = Self {
            files,
            state: Mutex::new(state),
            not_after: AtomicI64::new(not_after),
            failed_handshakes: AtomicU64::new(0),
            logger: logger.new(o!("component" => "http")),
        };
        tls.warn_of_expiry(&mut tls.lock(), mono_now());
        Ok(tls)
    }

    /// Returns when the certificate ends, in Unix time.
    pub fn not_after(&self) -> i64 {
        self.not_after.load(Ordering::Relaxed)
    }

    /// Returns how many handshakes have failed.
    pub fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    pub(super) fn count_failure(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a connection with the newest certificate.
    pub(super) fn session(&self) -> Result<Ssl, ErrorStack> {
        Ssl::new(self.lock().acceptor.context())
    }

    /// True if it is time to [`look`](Self::look) at the files, once for each time, and never while a look is under way: the
    /// disk may stall.
    pub(super) fn is_due(&self) -> bool {
        let (now, mut state) = (mono_now(), self.lock());
        if state.is_looking || now.since(state.looked_at) < LOOK_INTERVAL {
            return false;
        }
        (state.is_looking, state.looked_at) = (true, now);
        true
    }

    /// Looks at the files, and at the date. Blocks as long as the disk does: not for a thread of actors.
    pub(super) fn look(&self) {
        let known = self.lock().stamps.clone();
        if stamps(&self.files) != known {
            self.reload();
        }
        let mut state = self.lock();
        self.warn_of_expiry(&mut state, mono_now());
        state.is_looking = false;
    }

    /// Reads the files again, whatever they look like.
    pub fn reload(&self) {
        // Not under the lock, which new connections need: the disk may stall.
        let (stamps, loaded) = (stamps(&self.files), load(&self.files));
        let mut state = self.lock();
        state.stamps = stamps;
        match loaded {
            Ok((acceptor, not_after)) => {
                state.acceptor = acceptor;
                if self.not_after.swap(not_after, Ordering::Relaxed) != not_after {
                    state.warned_at = None;
                }
                info!(self.logger, "read the certificate of HTTP again";
                    "cert_file" => %self.files.cert_file.display(), "not_after" => rfc3339(not_after));
                self.warn_of_expiry(&mut state, mono_now());
            }
            Err(error) => {
                warn!(self.logger, "the certificate of HTTP cannot be used: keeping the one in use. Complete the \
                files; Andon looks at them again when they change"; "error" => causes(&error))
            }
        }
    }

    fn warn_of_expiry(&self, state: &mut State, now: Mono) {
        let not_after = self.not_after();
        let left = not_after - wall_now().as_micros() / 1_000_000;
        let is_due = state.warned_at.is_none_or(|at| now.since(at) >= WARN_INTERVAL);
        if left >= WARN_AHEAD_SECONDS || !is_due {
            return;
        }
        state.warned_at = Some(now);
        let (file, not_after) = (self.files.cert_file.display().to_string(), rfc3339(not_after));
        if left <= 0 {
            warn!(self.logger, "the certificate of HTTP has expired: clients refuse it. Replace the files";
                "cert_file" => file, "not_after" => not_after);
        } else {
            warn!(self.logger, "the certificate of HTTP expires soon. Replace the files; Andon takes the new ones by itself";
                "cert_file" => file, "not_after" => not_after, "days" => left / 86_400);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rfc3339(unix: i64) -> String {
    chrono::DateTime::from_timestamp(unix, 0).map_or_else(|| unix.to_string(), |at| at.to_rfc3339())
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.mtime(), found.mtime_nsec(), found.ino(), found.size()))
    };
    [&files.cert_file, &files.key_file].into_iter().chain(&files.client_ca_file).map(stamp).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

fn certificates(path: &Path) -> Result<Vec<X509>, TlsError> {
    let found = X509::stack_from_pem(&read(path)?).unwrap_or_default();
    if found.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(found) }
}

/// Reads everything; returns the acceptor, and when its certificate ends.
fn load(files: &TlsFiles) -> Result<(SslAcceptor, i64), TlsError> {
    let chain = certificates(&files.cert_file)?;
    // An encrypted key fails in place of asking for a passphrase on the terminal.
    let key = PKey::private_key_from_pem_callback(&read(&files.key_file)?, |_| Ok(0))
        .map_err(|error| TlsError::NoKey(files.key_file.clone(), error))?;
    let authorities = files.client_ca_file.as_deref().map(certificates).transpose()?;
    let refused = |error| TlsError::Refused(files.cert_file.clone(), error);
    let is_pair = match chain.first() {
        Some(leaf) => leaf.public_key().map_err(refused)?.public_eq(&key),
        None => false,
    };
    if !is_pair {
        return Err(TlsError::Mismatch { cert: files.cert_file.clone(), key: files.key_file.clone() });
    }
    build(chain, &key, authorities).map_err(refused)
}

fn build(
    chain: Vec<X509>,
    key: &PKey<Private>,
    authorities: Option<Vec<X509>>,
) -> Result<(SslAcceptor, i64), ErrorStack> {
    // TLS 1.2 and 1.3, and of their ciphers those with forward secrecy and authentication.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    builder
        .set_alpn_select_callback(|_, offered| select_next_proto(HTTP_1_1, offered).ok_or(AlpnError::NOACK));
    let mut not_after = i64::MAX;
    for (index, certificate) in chain.into_iter().enumerate() {
        if index == 0 {
            not_after = unix(certificate.not_after())?;
            builder.set_certificate(&certificate)?;
        } else {
            builder.add_extra_chain_cert(certificate)?;
        }
    }
    builder.set_private_key(key)?;
    if let Some(authorities) = authorities {
        require_client_certificates(&mut builder, authorities)?;
    }
    Ok((builder.build(), not_after))
}

fn require_client_certificates(
    builder: &mut SslAcceptorBuilder,
    authorities: Vec<X509>,
) -> Result<(), ErrorStack> {
    let (mut store, mut names) = (X509StoreBuilder::new()?, Stack::new()?);
    for authority in authorities {
        names.push(authority.subject_name().to_owned()?)?;
        store.add_cert(authority)?;
    }
    builder.set_verify_cert_store(store.build())?;
    builder.set_client_ca_list(names);
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    // A resumed session would not show its certificate again, and outlive it.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0)
}

fn unix(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}
