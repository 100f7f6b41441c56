//! The Secret `cacerts`, from which istiod has its CA.

use std::path::Path;

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::layout::{CERTIFICATE, CHAIN, KEY, ROOT};
use super::store::{self, Mode};
use super::{Bundle, CaKey, CertError, Certificate};

/// The name of the Secret that istiod reads its CA from.
const NAME: &str = "cacerts";

/// The keys of the form that Kubernetes has for TLS.
const TLS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// The forms of the Secret that istiod reads; where `tls.crt` is there, it looks at no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`.
    Files,
    /// Of type `kubernetes.io/tls`: `tls.crt`, `tls.key`, `ca.crt`.
    Tls,
}

/// The Secret `cacerts` of a cluster, for the namespace of its istiod.
pub fn secret(bundle: &Bundle, namespace: &str, form: Form) -> Result<Value, CertError> {
    let encoded = |text: &str| Base64::encode_string(text.as_bytes());
    let key = encoded(bundle.key().text());
    let (kind, data) = match form {
        Form::Files => (
            "Opaque",
            json!({
                CERTIFICATE: encoded(bundle.certificate()),
                KEY: key,
                ROOT: encoded(bundle.root()),
                CHAIN: encoded(bundle.chain()),
            }),
        ),
        Form::Tls => (
            "kubernetes.io/tls",
            json!({TLS[0]: encoded(&below_root(bundle)?), TLS[1]: key, TLS[2]: encoded(bundle.root())}),
        ),
    };
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": namespace},
        "type": kind,
        "data": data,
    }))
}

/// What a Secret with these keys lacks, of the form that istiod takes it for.
pub fn missing_in(keys: &[&str]) -> Vec<&'static str> {
    let form: &[&'static str] = if keys.contains(&TLS[0]) { &TLS } else { &[CERTIFICATE, KEY, ROOT, CHAIN] };
    form.iter().filter(|key| !keys.contains(key)).copied().collect()
}

/// The bundle of a Secret, of either form, from what it has under each key; none where something is missing.
pub fn from_secret(data: impl Fn(&str) -> Option<String>) -> Option<Bundle> {
    let [certificate, key, root] = TLS;
    let Some(shown) = data(certificate) else {
        return Some(Bundle::new(data(CERTIFICATE)?, CaKey::new(data(KEY)?), data(ROOT)?, data(CHAIN)?));
    };
    let root = data(root)?;
    let chain = format!("{}\n{root}", shown.trim_end());
    Some(Bundle::new(shown, CaKey::new(data(key)?), root, chain))
}

/// The chain up to the root: istiod puts `ca.crt` behind it.
fn below_root(bundle: &Bundle) -> Result<String, CertError> {
    let shown = bundle.presented()?;
    Ok(shown.iter().filter(|one| !one.is_root()).map(Certificate::text).collect())
}

/// Writes a Secret to a file that its owner alone can read; whether anything changed.
pub fn write_secret(path: &Path, text: &Zeroizing<String>) -> Result<bool, CertError> {
    if let Some(dir) = path.parent() {
        store::make_private_dir(dir)?;
    }
    let is_kept = store::is_there(path)? && !store::others_may_read(path)?;
    if is_kept && Zeroizing::new(store::read(path)?) == *text {
        return Ok(false);
    }
    store::replace(path, text, Mode::Private)?;
    Ok(true)
}
