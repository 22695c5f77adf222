//! A TLS handshake with a broker, made by Andon itself: why it fails, or which certificates the broker shows.
//!
//! The client library reports no more than "TCP/TLS connect failure". After such a failure this repeats the
//! handshake with the same settings, only to learn the reason, and sends nothing over it. The same handshake
//! shows when the broker's certificates expire.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::{X509, X509Ref, X509VerifyResult};

use super::super::client::options::{LinkOptions, TlsOptions};
use super::probe::reach;
use crate::domain::Endpoint;

/// What a successful handshake shows.
#[derive(Debug, Clone)]
pub struct Shown {
    /// `TLSv1.3` and the like.
    pub version: &'static str,
    /// The broker's certificate, then those it was verified by (or that it sent, if nothing is verified).
    pub chain: Vec<X509>,
    /// The application protocol agreed on.
    pub alpn: Option<String>,
}

/// With TLS 1.3 the broker judges our certificate after the handshake: how long to wait for that.
const VERDICT_WITHIN: Duration = Duration::from_millis(500);

/// Returns why connecting fails, in words, with the key to check. `None` if it would work now, or if neither
/// TLS nor the proxy is the reason.
pub fn connection_failure(endpoint: &Endpoint, options: &LinkOptions) -> Option<String> {
    let within = options.connect_timeout;
    let stream = match reach(endpoint, options.proxy.as_ref(), within) {
        Ok(stream) => stream,
        Err(reason) => return options.proxy.is_some().then_some(reason),
    };
    handshake(endpoint, options.tls.as_ref()?, stream, within).err()
}

/// Makes the handshake over a connection to the broker.
///
/// # Errors
/// Why it fails, in words, with the key to check.
pub fn handshake(
    endpoint: &Endpoint,
    tls: &TlsOptions,
    stream: TcpStream,
    within: Duration,
) -> Result<Shown, String> {
    let refused: Refused = Arc::default();
    let connector = connector(tls, &endpoint.host, &refused)?;
    let setup = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let configuration = connector.configure().map_err(setup)?.verify_hostname(tls.verify);
    match configuration.connect(&endpoint.host, stream) {
        Ok(mut session) => {
            let waits = session.get_ref().set_read_timeout(Some(VERDICT_WITHIN));
            waits.map_err(|error| error.to_string())?;
            match session.read(&mut [0]) {
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Err(broker_refusal(&error.to_string(), tls))
                }
                _ => Ok(shown(session.ssl())),
            }
        }
        Err(HandshakeError::Failure(failed)) => {
            let of_certificate = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(of_certificate.unwrap_or_else(|| broker_refusal(&failed.error().to_string(), tls)))
        }
        Err(HandshakeError::SetupFailure(error)) => Err(setup(error)),
        Err(HandshakeError::WouldBlock(_)) => {
            Err(format!("no answer to the TLS handshake within {} s; is this a TLS port?", within.as_secs()))
        }
    }
}

fn shown(session: &SslRef) -> Shown {
    let chain = session.verified_chain().or_else(|| session.peer_cert_chain());
    let mut chain: Vec<X509> =
        chain.map(|chain| chain.iter().map(X509Ref::to_owned).collect()).unwrap_or_default();
    if chain.is_empty() {
        chain.extend(session.peer_certificate());
    }
    let alpn = session.selected_alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    Shown { version: session.version_str(), chain, alpn }
}

/// Why our side refused the broker's certificate.
type Refused = Arc<Mutex<Option<String>>>;

fn connector(tls: &TlsOptions, wanted: &str, refused: &Refused) -> Result<SslConnector, String> {
    let setup = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(setup)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(setup)?;
    if let Some(ca_file) = &tls.ca_file {
        let shown = ca_file.display();
        builder
            .set_ca_file(ca_file)
            .map_err(|error| format!("mqtt.tls.ca_file {shown} cannot be used: {}", short(&error)))?;
    }
    if let Some(cert_file) = &tls.cert_file {
        let shown = cert_file.display();
        let used = builder.set_certificate_chain_file(cert_file);
        used.map_err(|error| format!("mqtt.tls.cert_file {shown} cannot be used: {}", short(&error)))?;
    }
    if let Some(key_file) = &tls.key_file {
        let failed =
            |reason: String| format!("mqtt.tls.key_file {} cannot be used: {reason}", key_file.display());
        let pem = std::fs::read(key_file).map_err(|error| failed(error.to_string()))?;
        let key = private_key(&pem, tls.key_password.as_deref()).map_err(&failed)?;
        // The only failure left, as the key itself was just read.
        let mismatch = |_: ErrorStack| failed("it does not belong to mqtt.tls.cert_file".to_owned());
        builder.set_private_key(&key).map_err(mismatch)?;
    }
    if !tls.alpn.is_empty() {
        builder.set_alpn_protos(&alpn_list(&tls.alpn)).map_err(setup)?;
    }
    let (refused, wanted) = (Arc::clone(refused), wanted.to_owned());
    let mode = if tls.verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE };
    builder.set_verify_callback(mode, move |accepted, chain| {
        if !accepted {
            let reason = certificate_refusal(chain.error(), chain.current_cert(), &wanted);
            refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        }
        accepted
    });
    Ok(builder.build())
}

/// The wire format: each name after its length (at most 255, checked with the configuration).
fn alpn_list(names: &[String]) -> Vec<u8> {
    let with_length = |name: &String| [&[name.len() as u8], name.as_bytes()].concat();
    names.iter().flat_map(with_length).collect()
}

fn private_key(
    pem: &[u8],
    password: Option<&str>,
) -> Result<openssl::pkey::PKey<openssl::pkey::Private>, String> {
    use openssl::pkey::PKey;
    // Without the callback the library would prompt at the terminal.
    let key = match password {
        Some(password) => PKey::private_key_from_pem_passphrase(pem, password.as_bytes()),
        None => PKey::private_key_from_pem_callback(pem, |_| Ok(0)),
    };
    key.map_err(|error| {
        let encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
        match (encrypted, password) {
            (true, None) => "it is encrypted; set mqtt.tls.key_password_file".to_owned(),
            (true, Some(_)) => "its passphrase is wrong; see mqtt.tls.key_password".to_owned(),
            (false, _) => short(&error),
        }
    })
}

/// Returns the library's first reason, without the source locations that it lists.
fn short(errors: &ErrorStack) -> String {
    let mut reasons = errors.errors().iter().filter_map(openssl::error::Error::reason);
    reasons.next().map_or_else(|| errors.to_string(), str::to_owned)
}

/// Codes of OpenSSL's `x509_vfy.h`.
fn certificate_refusal(error: X509VerifyResult, certificate: Option<&X509Ref>, wanted: &str) -> String {
    let issuer = || certificate.map(|found| one_line_name(found.issuer_name())).unwrap_or_default();
    match error.as_raw() {
        // Unable to get issuer, self-signed, self-signed in chain, unable to get issuer locally, unable to
        // verify leaf.
        2 | 18 | 19 | 20 | 21 => format!(
            "the broker's certificate is signed by an authority that is not trusted ('{}': {error}); see mqtt.tls.ca_file",
            issuer()
        ),
        9 => "the broker's certificate is not valid yet; is the clock right?".to_owned(),
        10 => {
            let date = certificate.map(|certificate| certificate.not_after().to_string());
            let whose = certificate.map(|found| one_line_name(found.subject_name())).unwrap_or_default();
            let date = date.as_deref().unwrap_or("an unknown date");
            format!("the broker's certificate expired on {date} ('{whose}')")
        }
        62 | 64 => {
            let got = certificate.map(names).unwrap_or_default();
            format!(
                "the broker's certificate is for another host: wanted '{wanted}', got {got}; see mqtt.host"
            )
        }
        _ => format!("the broker's certificate is refused: {error}"),
    }
}

/// Returns the common name, or the first entry.
pub fn one_line_name(name: &openssl::x509::X509NameRef) -> String {
    use openssl::nid::Nid;
    let common = name.entries_by_nid(Nid::COMMONNAME).next().or_else(|| name.entries().next());
    let text = common.and_then(|entry| entry.data().to_string().ok());
    text.unwrap_or_else(|| "no name".to_owned()).chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Returns the names that a certificate is valid for.
fn names(certificate: &X509Ref) -> String {
    const SHOWN_MAX: usize = 5;
    let mut names = Vec::new();
    for name in certificate.subject_alt_names().iter().flatten().take(SHOWN_MAX) {
        if let Some(dns) = name.dnsname() {
            names.push(format!("'{dns}'"));
        } else if let Some(bytes) = name.ipaddress() {
            names.push(format!("'{}'", address_text(bytes)));
        }
    }
    if names.is_empty() {
        names.push(format!("'{}'", one_line_name(certificate.subject_name())));
    }
    names.join(", ")
}

fn address_text(bytes: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::Ipv4Addr::from(bytes).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string());
    v4.or(v6).unwrap_or_else(|_| "an invalid address".to_owned())
}

/// Explains the broker's alert (RFC 8446, 6.2), as OpenSSL words it.
fn broker_refusal(error: &str, tls: &TlsOptions) -> String {
    const CERT: &str = "see mqtt.tls.cert_file";
    let has = |words: &str| error.contains(words);
    if has("certificate required") || (has("handshake failure") && tls.cert_file.is_none()) {
        return format!("the broker requires a client certificate; {CERT} and mqtt.tls.key_file");
    }
    if has("certificate revoked") {
        return format!("the broker says that Andon's certificate is revoked; {CERT}");
    }
    if has("certificate expired") {
        return format!("the broker says that Andon's certificate has expired; {CERT}");
    }
    if has("alert unknown ca") {
        return format!("the broker does not know the authority that signed Andon's certificate; {CERT}");
    }
    if has("no application protocol") {
        return format!(
            "the broker takes none of the application protocols {:?}; see mqtt.tls.alpn",
            tls.alpn
        );
    }
    if has("bad certificate") || has("certificate unknown") || has("handshake failure") {
        return format!("the broker refuses Andon's certificate ({error}); {CERT}");
    }
    if has("protocol version") || has("unsupported protocol") {
        return format!("the broker speaks no TLS 1.2 or later ({error})");
    }
    if ["wrong version number", "packet length", "reset by peer", "unexpected eof"]
        .iter()
        .any(|words| has(words))
    {
        return format!(
            "the broker breaks the TLS handshake off ({error}); is this a TLS port? see mqtt.port and mqtt.transport"
        );
    }
    format!("TLS handshake failed: {error}")
}
