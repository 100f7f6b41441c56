//! Roots and intermediates that were made elsewhere.

use std::fs;
use std::path::Path;

use isthmus::cert::{Hierarchy, RootFiles};
use time::OffsetDateTime;

use super::{NOW, accepts, files, leaf, makes, quick, told};

/// A root as openssl makes it, with these extensions.
fn root(dir: &Path, name: &str, extensions: &[&str]) {
    let mut arguments =
        vec!["req", "-x509", "-new", "-key", "key.pem", "-subj", "/O=Acme/CN=Mesh Root", "-out", name];
    let config = format!(
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nsubjectKeyIdentifier=hash\n{}\n",
        extensions.join("\n")
    );
    fs::write(dir.join("root.cnf"), config).expect("a file");
    arguments.extend(["-config", "root.cnf", "-days", "3650"]);
    makes(dir, &arguments);
}

const CA: &str = "basicConstraints=critical,CA:true";
const SIGNS: &str = "keyUsage=critical,keyCertSign,cRLSign";

/// The time by which openssl dates what it makes.
fn today() -> OffsetDateTime {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map(|since| OffsetDateTime::UNIX_EPOCH + since)
        .expect("a clock")
}

fn adopt(
    dir: &Path,
    certificate: &str,
    key: &str,
) -> Result<isthmus::cert::Report, isthmus::cert::CertError> {
    let (certificate, key) = (dir.join(certificate), dir.join(key));
    let root = RootFiles { certificate: Some(&certificate), key: Some(&key) };
    Hierarchy::at(dir.join("certs")).ensure_under(root, &["cluster1", "cluster2"], quick(), today())
}

#[test]
fn a_root_is_taken_whatever_the_form_of_its_key_and_openssl_accepts_what_it_signs() {
    let forms: [(&str, &[&[&str]]); 5] = [
        (
            "RSA, PKCS #8",
            &[&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"]],
        ),
        ("RSA, PKCS #1", &[&["genrsa", "-traditional", "-out", "key.pem", "2048"]]),
        (
            "P-256, PKCS #8",
            &[&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]],
        ),
        (
            "P-256, SEC 1 behind its parameters",
            &[&["ecparam", "-name", "prime256v1", "-genkey", "-out", "key.pem"]],
        ),
        (
            "P-384",
            &[&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "key.pem"]],
        ),
    ];
    for (form, commands) in forms {
        let dir = tempfile::tempdir().expect("a directory");
        commands.iter().for_each(|command| drop(makes(dir.path(), command)));
        root(dir.path(), "root.pem", &[CA, SIGNS]);
        let report = adopt(dir.path(), "root.pem", "key.pem")
            .unwrap_or_else(|error| panic!("{form}: {}", told(&error)));
        assert_eq!((report.root_made, report.made.len()), (true, 2), "{form}");
        let certs = dir.path().join("certs");
        assert!(!certs.join("root-key.pem").exists(), "{form}: the key was copied");
        let shown = leaf(&Hierarchy::at(&certs), "cluster1", today());
        let (yes, said) = accepts(dir.path(), &certs.join("cluster2/root-cert.pem"), &shown, today());
        assert!(yes, "{form}: {said}");
        let before = files(&certs);
        let again = adopt(dir.path(), "root.pem", "key.pem").expect("the same root");
        assert_eq!((again.root_made, again.kept.len()), (false, 2));
        assert_eq!(files(&certs), before, "{form}");
    }
}

#[test]
fn a_root_that_could_not_sign_is_refused_with_the_reason_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for key in ["key.pem", "other.pem"] {
        makes(dir, &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key]);
    }
    root(dir, "good.pem", &[CA, SIGNS]);
    root(dir, "no-ca.pem", &["basicConstraints=critical,CA:false"]);
    root(dir, "no-sign.pem", &[CA, "keyUsage=critical,digitalSignature"]);
    root(dir, "length.pem", &["basicConstraints=critical,CA:true,pathlen:0", SIGNS]);
    let good = fs::read_to_string(dir.join("good.pem")).expect("a root");
    fs::write(dir.join("two.pem"), format!("{good}{good}")).expect("a file");
    fs::write(dir.join("noise.pem"), "noise").expect("a file");
    fs::write(dir.join("cut.pem"), &good[..good.len() / 2]).expect("a file");
    makes(dir, &["req", "-new", "-key", "other.pem", "-subj", "/CN=below", "-out", "below.csr"]);
    fs::write(dir.join("below.cnf"), format!("{CA}\n{SIGNS}\n")).expect("a file");
    let below =
        ["x509", "-req", "-in", "below.csr", "-CA", "good.pem", "-CAkey", "key.pem", "-extfile", "below.cnf"];
    makes(dir, &[&below[..], &["-out", "below.pem"]].concat());
    let locked = ["-aes128", "-passout", "pass:one", "-in", "key.pem", "-out"];
    makes(dir, &[&["pkey"], &locked[..], &["locked.pem"]].concat());
    makes(dir, &[&["ec"], &locked[..], &["locked-old.pem"]].concat());
    let cases = [
        ("no-ca.pem", "key.pem", "no CA"),
        ("no-sign.pem", "key.pem", "keyCertSign"),
        ("length.pem", "key.pem", "path length is 0"),
        ("two.pem", "key.pem", "2 certificates"),
        ("noise.pem", "key.pem", "no certificate"),
        ("cut.pem", "key.pem", "no certificate"),
        ("below.pem", "other.pem", "signed by another CA"),
        ("good.pem", "other.pem", "does not belong"),
        ("good.pem", "noise.pem", "no private key"),
        ("good.pem", "missing.pem", "cannot read"),
        ("good.pem", "locked.pem", "is encrypted"),
        ("good.pem", "locked-old.pem", "is encrypted"),
    ];
    for (certificate, key, wanted) in cases {
        let said = told(&adopt(dir, certificate, key).expect_err(certificate));
        assert!(said.contains(wanted) && said.contains(".pem"), "{certificate}, {key}: {said}");
        assert_eq!(files(&dir.join("certs")), [], "{certificate}, {key}");
    }
    let keyless = dir.join("good.pem");
    let keyless = RootFiles { certificate: Some(&keyless), key: None };
    let said = Hierarchy::at(dir.join("certs")).ensure_under(keyless, &["cluster1"], quick(), today());
    assert!(told(&said.expect_err("nothing can sign")).contains("--root-key"));
    assert_eq!(files(&dir.join("certs")), [], "another root can still be named");
    let late = today() + time::Duration::days(4000);
    let (certificate, key) = (dir.join("good.pem"), dir.join("key.pem"));
    let root = RootFiles { certificate: Some(&certificate), key: Some(&key) };
    let ended = Hierarchy::at(dir.join("certs")).ensure_under(root, &["cluster1"], quick(), late);
    assert!(told(&ended.expect_err("it ended")).contains("ended on"));
}

#[test]
fn another_root_than_the_one_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    makes(dir.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"]);
    root(dir.path(), "root.pem", &[CA, SIGNS]);
    let hierarchy = Hierarchy::at(dir.path().join("certs"));
    hierarchy.ensure(&["cluster1"], quick(), today()).expect("a hierarchy");
    let before = files(&dir.path().join("certs"));
    let said = told(&adopt(dir.path(), "root.pem", "key.pem").expect_err("another root"));
    assert!(said.contains("mesh rotate root"), "{said}");
    assert_eq!(files(&dir.path().join("certs")), before);
}

const USAGE: &str = "keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign";

/// What the tool in Istio's release makes for clusters, by the same openssl commands.
fn istios_tool(dir: &Path, clusters: &[&str]) {
    makes(dir, &["genrsa", "-out", "root-key.pem", "2048"]);
    let config = format!(
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nsubjectKeyIdentifier=hash\n{CA}\n{USAGE}\n"
    );
    fs::write(dir.join("root-ca.conf"), config).expect("a file");
    let request = ["req", "-sha256", "-new", "-x509", "-key", "root-key.pem", "-subj", "/O=Istio/CN=Root CA"];
    makes(
        dir,
        &[&request[..], &["-days", "3650", "-config", "root-ca.conf", "-out", "root-cert.pem"]].concat(),
    );
    clusters.iter().for_each(|cluster| istios_intermediate(&dir.join(cluster), cluster));
}

fn istios_intermediate(own: &Path, cluster: &str) {
    fs::create_dir(own).expect("a directory");
    makes(own, &["genrsa", "-traditional", "-out", "ca-key.pem", "2048"]);
    let subject = format!("/O=Istio/CN=Intermediate CA/L={cluster}");
    makes(own, &["req", "-new", "-key", "ca-key.pem", "-subj", &subject, "-out", "cluster-ca.csr"]);
    let extensions = format!(
        "subjectKeyIdentifier=hash\nbasicConstraints=critical,CA:true,pathlen:0\n{USAGE}\nsubjectAltName=DNS:istiod.istio-system.svc\n"
    );
    fs::write(own.join("intermediate.conf"), extensions).expect("a file");
    let sign = ["x509", "-req", "-sha256", "-in", "cluster-ca.csr", "-days", "730", "-set_serial", "7"];
    let by = ["-CA", "../root-cert.pem", "-CAkey", "../root-key.pem", "-extfile", "intermediate.conf"];
    makes(own, &[&sign[..], &by, &["-out", "ca-cert.pem"]].concat());
    let read = |path: &str| fs::read_to_string(own.join(path)).expect("a file");
    fs::write(own.join("cert-chain.pem"), read("ca-cert.pem") + &read("../root-cert.pem")).expect("a file");
    fs::write(own.join("root-cert.pem"), read("../root-cert.pem")).expect("a file");
}

#[test]
fn what_istios_own_tool_made_is_read_as_it_is_and_a_cluster_is_added_to_it() {
    let dir = tempfile::tempdir().expect("a directory");
    istios_tool(dir.path(), &["cluster1", "cluster2"]);
    let before = files(dir.path());
    let hierarchy = Hierarchy::at(dir.path());
    let report = hierarchy.ensure(&["cluster1", "cluster2"], quick(), today()).expect("as it is");
    assert_eq!((report.root_made, report.made.len(), report.kept.len()), (false, 0, 2));
    assert_eq!(files(dir.path()), before);
    hierarchy.ensure(&["cluster1", "cluster2", "cluster3"], quick(), today()).expect("one more");
    for (from, to) in [("cluster1", "cluster3"), ("cluster3", "cluster1")] {
        let roots = hierarchy.cluster(to).join("root-cert.pem");
        let (yes, said) = accepts(dir.path(), &roots, &leaf(&hierarchy, from, today()), today());
        assert!(yes, "{from} -> {to}: {said}");
    }
}

#[test]
fn with_the_roots_key_off_line_all_is_kept_and_a_new_cluster_asks_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path().join("certs"));
    hierarchy.ensure(&["cluster1"], quick(), NOW).expect("a hierarchy");
    let off_line = dir.path().join("off-line.pem");
    fs::rename(dir.path().join("certs/root-key.pem"), &off_line).expect("moved");
    let before = files(&dir.path().join("certs"));
    hierarchy.ensure(&["cluster1"], quick(), NOW).expect("nothing is to be signed");
    let more = ["cluster1", "cluster2"];
    let said = told(&hierarchy.ensure(&more, quick(), NOW).expect_err("no key"));
    assert!(said.contains("root-key.pem is not there") && said.contains("--root-key"), "{said}");
    let said = told(&hierarchy.rotate_intermediate("cluster1", None, quick(), NOW).expect_err("no key"));
    assert!(said.contains("--root-key"), "{said}");
    assert_eq!(files(&dir.path().join("certs")), before);
    let with_key = RootFiles { certificate: None, key: Some(&off_line) };
    let report = hierarchy.ensure_under(with_key, &more, quick(), NOW).expect("the key is named");
    assert_eq!(report.made, ["cluster2"]);
    hierarchy.rotate_intermediate("cluster1", Some(&off_line), quick(), NOW).expect("the key is named");
    assert!(!dir.path().join("certs/root-key.pem").exists());
}

#[test]
fn what_was_left_half_written_is_told_and_never_used() {
    let four = ["ca-key.pem", "ca-cert.pem", "root-cert.pem", "cert-chain.pem"];
    // What a run that was cut short may leave: any of the four, in any number.
    for left in 1..15_u8 {
        let dir = tempfile::tempdir().expect("a directory");
        let hierarchy = Hierarchy::at(dir.path());
        hierarchy.ensure(&["cluster1"], quick(), NOW).expect("a hierarchy");
        for (index, name) in four.iter().enumerate() {
            if left & (1 << index) == 0 {
                fs::remove_file(dir.path().join("cluster1").join(name)).expect("a file");
            }
        }
        let before = files(dir.path());
        let result = hierarchy.ensure(&["cluster1"], quick(), NOW);
        if left & 0b11 == 0b11 {
            // Key and certificate are there, and the other two follow from them.
            result.expect("completed");
            let (yes, said) = accepts(
                dir.path(),
                &dir.path().join("cluster1/root-cert.pem"),
                &leaf(&hierarchy, "cluster1", NOW),
                NOW,
            );
            assert!(yes, "{left:04b}: {said}");
        } else {
            let said = told(&result.expect_err("told"));
            assert!(said.contains("is there but"), "{left:04b}: {said}");
            assert_eq!(files(dir.path()), before, "{left:04b}");
        }
    }
}

#[test]
fn no_error_holds_any_part_of_a_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path();
    makes(path, &["genrsa", "-traditional", "-out", "key.pem", "2048"]);
    root(path, "root.pem", &[CA, SIGNS]);
    let key = fs::read_to_string(path.join("key.pem")).expect("a key");
    let lines: Vec<&str> = key.lines().collect();
    let body = lines[1..lines.len() - 1].to_vec();
    let spoiled = [
        body.join("\n"),
        key.replace("RSA PRIVATE KEY", "PRIVATE KEY"),
        key.replace("RSA PRIVATE KEY", "EC PRIVATE KEY"),
        key.replace(body[3], &body[3].replace(|c: char| c.is_ascii_uppercase(), "!")),
        key.replace("-----END RSA PRIVATE KEY-----", ""),
        key.replace("-----BEGIN", &format!("-----BEGIN {}", body[0])),
        format!("-----BEGIN {}-----\nx\n-----END {}-----\n", body[0], body[1]),
        lines[..lines.len() / 2].join("\n"),
        key.replace(body[2], ""),
        format!("{}\n{}\n{}\n", lines[0], body[0], lines[lines.len() - 1]),
    ];
    for (index, text) in spoiled.iter().enumerate() {
        fs::write(path.join("spoiled.pem"), text).expect("a file");
        let mut errors = vec![adopt(path, "root.pem", "spoiled.pem").expect_err("a spoiled key")];
        let hierarchy = Hierarchy::at(path.join(format!("h{index}")));
        hierarchy.ensure(&["cluster1"], quick(), NOW).expect("a hierarchy");
        fs::write(hierarchy.cluster("cluster1").join("ca-key.pem"), text).expect("a file");
        errors.push(hierarchy.ensure(&["cluster1"], quick(), NOW).expect_err("a spoiled key"));
        errors.push(hierarchy.intermediate("cluster1").expect_err("a spoiled key"));
        let bundle = hierarchy.bundle("cluster1").expect("four files");
        errors.push(bundle.check(Path::new("x"), NOW).expect_err("a spoiled key"));
        for said in errors.iter().map(told).chain([format!("{bundle:?}"), format!("{hierarchy:?}")]) {
            for line in &body {
                let part = &line[..line.len().min(12)];
                assert!(!said.contains(part), "{index}: {said}");
            }
        }
    }
}
