//! Why a TLS connection to the broker fails.
//!
//! The client library says no more than "TCP/TLS connect failure". After such a failure the handshake is made once more
//! by ourselves, with the same settings, only to learn the reason; nothing is sent over it.

use std::io::{ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{HandshakeError, SslConnector, SslFiletype, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509VerifyResult;

use super::link::TlsOptions;

/// The reason in words, with what to look at; `None` if the handshake works now, or if it is not TLS that fails. Blocks,
/// for each of its steps at most `within`.
pub fn handshake_failure(host: &str, port: u16, tls: &TlsOptions, within: Duration) -> Option<String> {
    let stream = (host, port)
        .to_socket_addrs()
        .ok()?
        .find_map(|address| TcpStream::connect_timeout(&address, within).ok())?;
    stream.set_read_timeout(Some(within)).ok()?;
    stream.set_write_timeout(Some(within)).ok()?;
    let refused: Refused = Arc::default();
    let connector = match connector(tls, &refused) {
        Ok(connector) => connector,
        Err(reason) => return Some(reason),
    };
    let configuration = connector.configure().ok()?.verify_hostname(tls.verify);
    match configuration.connect(host, stream) {
        // With TLS 1.3 the broker's opinion of our certificate comes after the handshake.
        Ok(mut session) => {
            session.get_ref().set_read_timeout(Some(Duration::from_millis(500))).ok()?;
            match session.read(&mut [0]) {
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Some(broker_refusal(&error.to_string()))
                }
                _ => None,
            }
        }
        Err(HandshakeError::Failure(failed)) => {
            let of_certificate = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            Some(of_certificate.unwrap_or_else(|| broker_refusal(&failed.error().to_string())))
        }
        Err(HandshakeError::SetupFailure(error)) => Some(format!("TLS cannot be set up: {error}")),
        Err(HandshakeError::WouldBlock(_)) => {
            Some(format!("no answer to the TLS handshake within {} s; is this a TLS port?", within.as_secs()))
        }
    }
}

/// Why our side refused the broker's certificate.
type Refused = Arc<Mutex<Option<String>>>;

fn connector(tls: &TlsOptions, refused: &Refused) -> Result<SslConnector, String> {
    let setup = |error: ErrorStack| format!("TLS cannot be set up: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(setup)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(setup)?;
    if let Some(ca_file) = &tls.ca_file {
        let shown = ca_file.display();
        builder
            .set_ca_file(ca_file)
            .map_err(|error| format!("mqtt.tls.ca_file {shown} cannot be used: {error}"))?;
    }
    if let Some(cert_file) = &tls.cert_file {
        let shown = cert_file.display();
        let used = builder.set_certificate_chain_file(cert_file);
        used.map_err(|error| format!("mqtt.tls.cert_file {shown} cannot be used: {error}"))?;
    }
    if let Some(key_file) = &tls.key_file {
        let shown = key_file.display();
        let failed = |reason: String| format!("mqtt.tls.key_file {shown} cannot be used: {reason}");
        match &tls.key_password {
            None => builder
                .set_private_key_file(key_file, SslFiletype::PEM)
                .map_err(|error| failed(error.to_string()))?,
            Some(password) => {
                let pem = std::fs::read(key_file).map_err(|error| failed(error.to_string()))?;
                let key = openssl::pkey::PKey::private_key_from_pem_passphrase(&pem, password.as_bytes());
                let key =
                    key.map_err(|_| failed("its passphrase is wrong; see mqtt.tls.key_password".to_owned()))?;
                builder.set_private_key(&key).map_err(|error| failed(error.to_string()))?;
            }
        }
    }
    let refused = Arc::clone(refused);
    let mode = if tls.verify { SslVerifyMode::PEER } else { SslVerifyMode::NONE };
    builder.set_verify_callback(mode, move |accepted, chain| {
        if !accepted {
            let not_after = chain.current_cert().map(|certificate| certificate.not_after().to_string());
            let reason = certificate_refusal(chain.error(), not_after.as_deref());
            refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        }
        accepted
    });
    Ok(builder.build())
}

/// Codes of OpenSSL's `x509_vfy.h`.
fn certificate_refusal(error: X509VerifyResult, not_after: Option<&str>) -> String {
    match error.as_raw() {
        // Unable to get issuer, self-signed, self-signed in chain, unable to get issuer locally, unable to verify leaf.
        2 | 18 | 19 | 20 | 21 => {
            format!(
                "the broker's certificate is signed by an authority that is not trusted ({error}); see mqtt.tls.ca_file"
            )
        }
        9 => "the broker's certificate is not valid yet; is the clock right?".to_owned(),
        10 => format!("the broker's certificate expired on {}", not_after.unwrap_or("an unknown date")),
        62 | 64 => format!("the broker's certificate is for another host ({error}); see mqtt.host"),
        _ => format!("the broker's certificate is refused: {error}"),
    }
}

fn broker_refusal(error: &str) -> String {
    let asks_for_ours = ["certificate required", "handshake failure", "bad certificate", "unknown ca"];
    if asks_for_ours.iter().any(|words| error.contains(words)) {
        return format!("the broker refuses our certificate, or wants one ({error}); see mqtt.tls.cert_file");
    }
    if error.contains("wrong version number") || error.contains("packet length") {
        return format!(
            "the broker does not speak TLS on this port ({error}); see mqtt.port and mqtt.transport"
        );
    }
    format!("TLS handshake failed: {error}")
}
