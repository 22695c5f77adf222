//! Makes authorities and certificates, in PEM files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// Validity of a certificate.
#[derive(Clone, Copy)]
pub enum Valid {
    Days(u32),
    /// Until 2023-11-14T22:13:20Z.
    Expired,
}

/// A key and its certificate.
pub struct Identity {
    key: PKey<Private>,
    certificate: X509,
    serial: u32,
}

/// PEM files of an identity.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    pub fn certificate(&self) -> String {
        self.certificate.display().to_string()
    }

    pub fn key(&self) -> String {
        self.key.display().to_string()
    }
}

impl Identity {
    /// Makes a self-signed authority.
    pub fn authority(name: &str) -> Self {
        Self::authority_for(name, Valid::Days(400))
    }

    /// Makes a self-signed authority with the given validity.
    pub fn authority_for(name: &str, valid: Valid) -> Self {
        Self::new(name, valid, None)
    }

    /// Makes a certificate for `name`, a host name or an IP address, signed by this authority.
    pub fn issue(&self, name: &str, valid: Valid) -> Self {
        Self::new(name, valid, Some(self))
    }

    fn new(host: &str, valid: Valid, issuer: Option<&Identity>) -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", host).unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        let number = BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
        builder.set_serial_number(&number).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(issuer.map_or(&name, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(1_600_000_000).unwrap()).unwrap();
        let not_after = match valid {
            Valid::Days(days) => Asn1Time::days_from_now(days).unwrap(),
            Valid::Expired => Asn1Time::from_unix(1_700_000_000).unwrap(),
        };
        builder.set_not_after(&not_after).unwrap();
        let context = builder.x509v3_context(issuer.map(|issuer| &*issuer.certificate), None);
        let mut alternative = SubjectAlternativeName::new();
        if host.parse::<std::net::IpAddr>().is_ok() {
            alternative.ip(host);
        } else {
            alternative.dns(host);
        }
        let alternative = alternative.build(&context).unwrap();
        builder.append_extension(alternative).unwrap();
        if issuer.is_none() {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        }
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key, serial }
    }

    pub fn key(&self) -> &PKey<Private> {
        &self.key
    }

    pub fn x509(&self) -> &X509 {
        &self.certificate
    }

    /// Writes `<name>.crt` and `<name>.key`.
    pub fn write(&self, directory: &Path, name: &str) -> Files {
        self.write_key(directory, name, self.key.private_key_to_pem_pkcs8().unwrap())
    }

    /// As [`Self::write`], with an encrypted key.
    pub fn write_encrypted(&self, directory: &Path, name: &str, passphrase: &str) -> Files {
        let pem = self
            .key
            .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), passphrase.as_bytes())
            .unwrap();
        self.write_key(directory, name, pem)
    }

    fn write_key(&self, directory: &Path, name: &str, key_pem: Vec<u8>) -> Files {
        let files = Files {
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificate, self.certificate.to_pem().unwrap()).unwrap();
        std::fs::write(&files.key, key_pem).unwrap();
        files
    }

    /// Writes a list of revoked certificates, signed by this authority with the `openssl` program.
    pub fn write_revocation_list(&self, directory: &Path, revoked: &Identity) -> PathBuf {
        let own = self.write(directory, "issuer");
        let (index, list, config) =
            (directory.join("index.txt"), directory.join("revoked.crl"), directory.join("ca.conf"));
        let line = format!("R\t351231235959Z\t260101000000Z\t{:02X}\tunknown\t/CN=revoked\n", revoked.serial);
        std::fs::write(&index, line).unwrap();
        let text = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {}\ndefault_md = sha256\ndefault_crl_days = 30\n",
            index.display()
        );
        std::fs::write(&config, text).unwrap();
        let made = std::process::Command::new("openssl")
            .args(["ca", "-gencrl", "-config"])
            .arg(&config)
            .arg("-cert")
            .arg(&own.certificate)
            .arg("-keyfile")
            .arg(&own.key)
            .arg("-out")
            .arg(&list)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        list
    }
}
