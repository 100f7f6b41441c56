//! The Secret `cacerts`, in both forms that istiod reads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use isthmus::cert::{Form, Hierarchy, secret};
use isthmus_tests::repository;
use serde_json::Value;

use super::{NOW, accepts, isthmus, leaf, makes, openssl, quick, told};

/// What istiod finds where the Secret is mounted.
fn mounted(secret: &Value) -> BTreeMap<String, String> {
    let data = secret["data"].as_object().expect("data");
    let text = |value: &Value| {
        let bytes = Base64::decode_vec(value.as_str().expect("text")).expect("base64");
        String::from_utf8(bytes).expect("PEM")
    };
    data.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The files that istiod takes for its certificate, its key, its roots and its chain.
fn istiod(files: &BTreeMap<String, String>) -> [String; 4] {
    if files.contains_key("tls.crt") {
        let chain = format!("{}{}", files["tls.crt"], files["ca.crt"]);
        return [files["tls.crt"].clone(), files["tls.key"].clone(), files["ca.crt"].clone(), chain];
    }
    ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"].map(|name| files[name].clone())
}

#[test]
fn both_forms_hold_what_istiod_demands_and_openssl_finds_key_and_chain_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path().join("certs"));
    hierarchy.ensure(&["cluster1", "cluster2"], quick(), NOW).expect("a hierarchy");
    let at = NOW.unix_timestamp().to_string();
    for (form, kind, names) in [
        (Form::Files, "Opaque", &["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"][..]),
        (Form::Tls, "kubernetes.io/tls", &["ca.crt", "tls.crt", "tls.key"]),
    ] {
        let bundle = hierarchy.bundle("cluster1").expect("a bundle");
        let secret = secret(&bundle, "istio-system", form).expect("a Secret");
        assert_eq!(secret["type"], kind);
        assert_eq!(secret["metadata"], serde_json::json!({"name": "cacerts", "namespace": "istio-system"}));
        let files = mounted(&secret);
        assert_eq!(files.keys().collect::<Vec<_>>(), names);
        let [certificate, key, roots, chain] = istiod(&files);
        for (name, text) in [("c.pem", &certificate), ("k.pem", &key), ("r.pem", &roots), ("i.pem", &chain)] {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        let public = makes(dir.path(), &["x509", "-in", "c.pem", "-noout", "-pubkey"]);
        assert_eq!(public, makes(dir.path(), &["pkey", "-in", "k.pem", "-pubout"]), "{form:?}");
        let verify = [
            "verify",
            "-no-CApath",
            "-no-CAstore",
            "-attime",
            &at,
            "-CAfile",
            "r.pem",
            "-untrusted",
            "i.pem",
            "c.pem",
        ];
        assert!(makes(dir.path(), &verify).contains("OK"), "{form:?}");
        assert!(chain.starts_with(&certificate) && chain.ends_with(&roots), "{form:?}");
    }
}

#[test]
fn what_istiod_would_refuse_is_refused_before_anything_is_written() {
    type Spoil = fn(&Path, &Path);
    let cases: [(&str, Spoil); 6] = [
        ("does not belong", |own, other| {
            fs::copy(other.join("ca-key.pem"), own.join("ca-key.pem")).expect("a file");
        }),
        ("does not begin with", |own, other| {
            fs::copy(other.join("cert-chain.pem"), own.join("cert-chain.pem")).expect("a file");
        }),
        ("no certificate", |own, _| fs::write(own.join("root-cert.pem"), "").expect("a file")),
        ("cannot read", |own, _| fs::remove_file(own.join("cert-chain.pem")).expect("a file")),
        ("first block is no key", |own, _| {
            let key = fs::read_to_string(own.join("ca-key.pem")).expect("a key");
            let certificate = fs::read_to_string(own.join("ca-cert.pem")).expect("a certificate");
            fs::write(own.join("ca-key.pem"), certificate + &key).expect("a file");
        }),
        ("no path", |own, other| {
            // Another root of another name.
            let root = fs::read_to_string(other.join("elsewhere.pem")).expect("a root");
            fs::write(own.join("root-cert.pem"), root).expect("a file");
        }),
    ];
    for (wanted, spoil) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let hierarchy = Hierarchy::at(dir.path());
        hierarchy.ensure(&["cluster1", "cluster2"], quick(), NOW).expect("a hierarchy");
        let (own, other) = (hierarchy.cluster("cluster1"), hierarchy.cluster("cluster2"));
        let subject = ["-subj", "/CN=elsewhere", "-keyout", "/dev/null", "-out", "elsewhere.pem"];
        makes(
            &other,
            &[
                &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
                &subject[..],
            ]
            .concat(),
        );
        hierarchy.bundle("cluster1").expect("a bundle").check(&own, NOW).expect("sound before");
        spoil(&own, &other);
        let said = hierarchy.bundle("cluster1").and_then(|bundle| bundle.check(&own, NOW)).expect_err(wanted);
        assert!(told(&said).contains(wanted), "{wanted}: {}", told(&said));
    }
}

#[test]
fn a_bundle_that_ended_is_refused_and_openssl_says_so_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path());
    let short = isthmus::cert::Options { intermediate_lifetime: time::Duration::days(10), ..quick() };
    hierarchy.ensure(&["cluster1"], short, NOW).expect("a hierarchy");
    let roots = dir.path().join("root-cert.pem");
    for (days, holds) in [(9, true), (11, false)] {
        let at = NOW + time::Duration::days(days);
        let result = hierarchy.bundle("cluster1").expect("a bundle").check(dir.path(), at);
        let (yes, said) = accepts(dir.path(), &roots, &leaf(&hierarchy, "cluster1", at), at);
        assert_eq!((result.is_ok(), yes), (holds, holds), "{result:?} {said}");
    }
}

#[test]
fn secrets_are_written_for_their_owner_alone_and_printed_only_when_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().display().to_string();
    let certs = |more: &[&str]| {
        let usual = ["mesh", "certs", "-f", "examples/two-clusters", "--key", "p256", "--output-dir", &out];
        isthmus(&[&usual, more].concat())
    };
    let (code, said, _) = certs(&["--secrets", "--secret-form", "tls"]);
    assert_eq!(code, 0);
    let path = dir.path().join("cacerts.secrets/cluster2.yaml");
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("a directory"))), (0o600, 0o700));
    let written: Value = serde_saphyr::from_str(&fs::read_to_string(&path).expect("a file")).expect("YAML");
    let files = mounted(&written);
    let key = fs::read_to_string(dir.path().join("cluster2/ca-key.pem")).expect("a key");
    assert_eq!(files["tls.key"], key);
    let secret_line = written["data"]["tls.key"].as_str().expect("text").to_owned();
    assert!(!said.contains(&secret_line) && said.contains("wrote Secret cacerts of cluster2"), "{said}");
    let (_, said, _) = certs(&["--secrets", "--secret-form", "tls"]);
    assert!(said.contains("kept Secret cacerts of cluster2"), "{said}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("a mode");
    let (_, said, _) = certs(&["--secrets", "--secret-form", "tls"]);
    assert!(said.contains("wrote Secret cacerts of cluster2"), "{said}");
    assert_eq!(mode(&path), 0o600, "what others could read is written anew");
    let elsewhere = dir.path().join("elsewhere");
    certs(&[&format!("--secrets={}", elsewhere.display())]);
    assert_eq!(mode(&elsewhere.join("cluster1.yaml")), 0o600);
    let (_, shown, talk) = certs(&["--show-secrets", "--secret-form", "tls"]);
    assert!(shown.contains(&secret_line) && !talk.contains(&secret_line), "{shown}");
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&shown[shown.find("---").expect("a Secret")..]).expect("YAML");
    assert_eq!(documents.len(), 2);
}

#[test]
fn the_command_line_says_what_ends_and_who_trusts_whom() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().display().to_string();
    let of = |verb: &[&str]| isthmus(&[verb, &["-f", "examples/two-clusters"]].concat());
    assert_eq!(of(&["mesh", "certs", "--key", "p256", "--output-dir", &out]).0, 0);
    let key = dir.path().join("cluster2/ca-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("a mode");
    let (_, _, talk) = of(&["mesh", "certs", "--key", "p256", "--output-dir", &out]);
    assert_eq!(talk.matches("others may read").count(), 1, "{talk}");
    assert!(talk.contains(&key.display().to_string()), "{talk}");
    let (code, said, _) = of(&["check", "--certs", &out]);
    assert_eq!((code, said.contains("ends in")), (0, false), "{said}");
    let (code, said, _) = of(&["check", "--certs", &out, "--expiry-warning", "4000"]);
    let wanted =
        "cluster1/ca-cert.pem: warning: O=Istio, CN=Intermediate CA, L=cluster1 ends in 3649 days, on ";
    assert!(code == 0 && said.contains(wanted), "{said}");
    assert!(said.contains("hint: isthmus mesh rotate intermediate cluster1"), "{said}");
    let (_, said, _) = of(&["check", "--certs", &out, "--expiry-warning", "4000", "-o", "json"]);
    let json: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(json["certificates"].as_array().map(Vec::len), Some(3));
    let (code, said, _) = of(&["mesh", "trust", "--certs", &out]);
    assert_eq!((code, said.matches("yes").count()), (0, 4), "{said}");
    // cluster2 of another root of the same name.
    let other = dir.path().join("other");
    let elsewhere = Hierarchy::at(&other);
    elsewhere.ensure(&["cluster2"], quick(), time::OffsetDateTime::now_utc()).expect("another");
    fs::remove_dir_all(dir.path().join("cluster2")).expect("removed");
    fs::rename(other.join("cluster2"), dir.path().join("cluster2")).expect("moved");
    let (code, said, _) = of(&["mesh", "trust", "--certs", &out]);
    assert_eq!((code, said.matches("other-key").count()), (1, 2), "{said}");
    let (_, said, _) = of(&["mesh", "trust", "--certs", &out, "-o", "json"]);
    let json: Value = serde_json::from_str(&said).expect("JSON");
    let reason = |from: &str, to: &str| {
        let items = json["items"].as_array().expect("items").iter();
        let mut cell = items.filter(|item| item["from"] == from && item["to"] == to);
        cell.next().expect("a cell")["reason"].as_str().map(str::to_owned)
    };
    assert_eq!(reason("cluster1", "cluster1"), None);
    assert_eq!(reason("cluster1", "cluster2").as_deref(), Some("other-key"));
    let (yes, _) =
        openssl(dir.path(), &["verify", "-CAfile", "cluster1/root-cert.pem", "cluster2/ca-cert.pem"]);
    assert!(!yes, "openssl accepts what `mesh trust` does not");
}

#[test]
fn federated_meshes_have_a_root_each_and_openssl_accepts_neither_below_the_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = repository().join("tests/golden/model-multi-primary-networks-federated/mesh.yaml");
    let mesh = mesh.display().to_string();
    let certs = dir.path().display().to_string();
    let run = |verb: &[&str]| isthmus(&[verb, &["-f", &mesh, "--certs", &certs]].concat());
    let (code, said, talk) = run(&["mesh", "certs", "--key", "p256"]);
    assert_eq!(code, 0, "{talk}");
    assert!(
        !said.contains("partner") && talk.contains("of mesh partner, which has a root of its own"),
        "{said}{talk}"
    );
    let (code, said, talk) = run(&["mesh", "certs", "--key", "p256", "--mesh", "partner"]);
    assert_eq!((code, said.contains("partner-2026.root/root-cert.pem")), (0, true), "{said}{talk}");
    for (mesh, clusters) in [("home", 2), ("partner", 1)] {
        let (code, said, _) = run(&["mesh", "trust", "--mesh", mesh]);
        assert_eq!((code, said.matches("yes").count()), (0, clusters * clusters), "{mesh}: {said}");
    }
    let (code, _, talk) = run(&["mesh", "rotate", "root", "--mesh", "partner", "--key", "p256"]);
    assert_eq!((code, dir.path().join("partner-2026.root/root.new").is_dir()), (0, true), "{talk}");
    let (_, said, _) = run(&["check", "--expiry-warning", "4000", "-o", "json"]);
    let json: Value = serde_json::from_str(&said).expect("JSON");
    let told = json["certificates"].as_array().expect("certificates");
    assert_eq!(told.len(), 6, "three roots and three intermediates: {told:?}");
    let (yes, _) = openssl(dir.path(), &["verify", "-CAfile", "root-cert.pem", "partner-1/ca-cert.pem"]);
    assert!(!yes, "the partner's CA is below the home root");
    let (code, _, talk) = run(&["mesh", "certs", "--mesh", "nobody"]);
    assert!(code != 0 && talk.contains("it has home, partner"), "{talk}");
}

#[test]
fn a_remote_cluster_gets_no_ca_since_its_primary_signs_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let certs = dir.path().display().to_string();
    let mesh =
        repository().join("tests/golden/model-primary-remote-networks/mesh.yaml").display().to_string();
    let (code, said, talk) =
        isthmus(&["mesh", "certs", "-f", &mesh, "--key", "p256", "--secrets", "--certs", &certs]);
    assert_eq!(code, 0, "{talk}");
    assert!(talk.contains("has no CA of its own: the istiod of "), "{talk}");
    assert_eq!(
        (said.matches("made intermediate of").count(), said.matches("wrote Secret").count()),
        (1, 1),
        "{said}"
    );
}
