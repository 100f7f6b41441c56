//! Keys and signatures that OpenSSL makes, for modules that sign and verify.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

/// The kinds of keys, as OpenSSL is asked for them.
const KINDS: [(&str, &[&str]); 5] = [
    ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("p521", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
    ("ed25519", &["-algorithm", "ED25519"]),
];

const HASHES: [&str; 5] = ["sha1", "sha224", "sha256", "sha384", "sha512"];

/// What is signed.
const TEXT: &[u8] = b"text";

/// Of each kind: `KIND.pem` and `KIND.der`, the key; `KIND.old.pem`, the same in the form from before PKCS #8;
/// `KIND.public.pem` and `KIND.public.der`; and by each hash function `KIND.sha256`, a signature.
static MADE: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("text"), TEXT).expect("a file");
    for (kind, how) in KINDS {
        let file = |suffix: &str| format!("{kind}.{suffix}");
        let (key, public) = (file("pem"), file("public.pem"));
        openssl(dir.path(), &[&["genpkey", "-out", &key][..], how].concat());
        openssl(
            dir.path(),
            &["pkcs8", "-topk8", "-nocrypt", "-in", &key, "-outform", "DER", "-out", &file("der")],
        );
        openssl(dir.path(), &["pkey", "-in", &key, "-pubout", "-out", &public]);
        let der = file("public.der");
        openssl(dir.path(), &["pkey", "-in", &key, "-pubout", "-outform", "DER", "-out", &der]);
        // It is younger than that form, and hashes by itself.
        if kind == "ed25519" {
            continue;
        }
        openssl(dir.path(), &["pkey", "-in", &key, "-traditional", "-out", &file("old.pem")]);
        for hash in HASHES {
            let (by, out) = (format!("-{hash}"), file(hash));
            openssl(dir.path(), &["dgst", &by, "-sign", &key, "-out", &out, "text"]);
        }
    }
    dir
});

fn openssl(dir: &Path, arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl runs");
    assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A key or a signature by its name.
pub(super) fn of(name: &str) -> Option<Vec<u8>> {
    std::fs::read(MADE.path().join(name)).ok()
}
