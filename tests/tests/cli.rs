//! The cli tier: the `isthmus` binary, as a person or a script runs it.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that fails fails its test")]

#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/foreign.rs"]
mod foreign;
#[path = "cli/imports.rs"]
mod imports;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/render.rs"]
mod render;
#[path = "cli/suites.rs"]
mod suites;
#[path = "cli/testing.rs"]
mod testing;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use isthmus_tests::repository;

/// The binary that was built beside this test.
fn isthmus() -> Command {
    let test = std::env::current_exe().expect("a test binary");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let binary = profile.join("isthmus");
    assert!(binary.is_file(), "no {}: run `cargo build -p isthmus`", binary.display());
    let mut command = Command::new(binary);
    command.current_dir(repository()).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    isthmus().args(arguments).output().expect("it runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

#[test]
fn check_says_yes_of_the_example_and_no_of_the_broken_one() {
    let good = run(&["check", "-f", "examples/two-clusters"]);
    assert_eq!((good.status.code(), stderr(&good).as_str()), (Some(0), ""));
    let bad = run(&["check", "-f", "examples/two-clusters/broken"]);
    assert_eq!(bad.status.code(), Some(1));
    let shown = stdout(&bad);
    let wanted = "examples/two-clusters/broken/mesh.yaml:17:5: error[ISM002]: cluster has no key \"podCIDR\"\n   \
                  17 |     podCIDR: 10.30.0.0/16\n      |     ^^^^^^^\n  hint: did you mean \"podCidr\"?";
    assert!(shown.contains(wanted), "{shown}");
}

#[test]
fn findings_as_json_have_a_kind_and_a_place() {
    let bad = run(&["check", "-f", "examples/two-clusters/broken", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    assert_eq!(json.pointer("/kind"), Some(&"Findings".into()));
    let items = json.pointer("/items").and_then(|items| items.as_array()).expect("a list");
    assert!(items.iter().all(|item| item.get("line").is_some_and(serde_json::Value::is_u64)));
    assert!(items.len() >= 7, "{items:#?}");
}

#[test]
fn what_cannot_be_read_is_a_usage_error_that_says_what_to_do() {
    for (arguments, said) in [
        (&["check", "-f", "nowhere/mesh.yaml"][..], "nowhere/mesh.yaml"),
        (&["chekc"], "check"),
        (&["test", "nowhere.yaml"], "nowhere.yaml"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_rollout_is_idempotent_and_a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("gitops");
    let out = out.display().to_string();
    let rollout = |more: &[&str]| {
        let usual = [
            "rollout",
            "-f",
            "examples/two-clusters",
            "--output-dir",
            &out,
            "--url",
            "oci://registry.example/isthmus:v1",
            "--no-resolve",
            "--pull-secret",
            "registry",
        ];
        run(&[&usual, more].concat())
    };
    let dry = rollout(&["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert!(stdout(&dry).contains("5 would be written"), "{}", stdout(&dry));
    assert!(stdout(&dry).contains("/cluster2/isthmus-route@sample.cache.yaml"), "{}", stdout(&dry));
    assert!(!Path::new(&out).exists());
    assert!(stdout(&rollout(&[])).contains("5 written, 0 unchanged"));
    let before = files(Path::new(&out));
    // Beside five objects each cluster has a record and a revision.
    assert_eq!(before.len(), 14);
    assert!(stdout(&rollout(&[])).contains("0 written, 5 unchanged"));
    assert_eq!(files(Path::new(&out)), before);
    let plugin = before.iter().find(|(path, _)| path.ends_with("isthmus-inbound.yaml"));
    let plugin = String::from_utf8(plugin.expect("a file").1.clone()).expect("text");
    for said in [
        "url: oci://registry.example/isthmus:v1\n",
        "imagePullPolicy: Always\n",
        "imagePullSecret: registry\n",
    ] {
        assert!(plugin.contains(said), "{plugin}");
    }
}

#[test]
fn a_mesh_with_errors_is_not_rolled_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("gitops").display().to_string();
    let bad = run(&[
        "rollout",
        "-f",
        "examples/two-clusters/broken",
        "--output-dir",
        &out,
        "--url",
        "oci://r.example/isthmus",
    ]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(stderr(&bad).contains("7 errors") && !Path::new(&out).exists(), "{}", stderr(&bad));
}

#[test]
fn certificates_are_made_once_and_kept_and_openssl_accepts_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().display().to_string();
    let certs =
        || run(&["mesh", "certs", "-f", "examples/two-clusters", "--output-dir", &out, "--key", "p256"]);
    assert!(
        stdout(&certs()).contains("made intermediate of cluster1: L=cluster1,CN=Intermediate CA,O=Istio")
    );
    let before = files(dir.path());
    assert!(stdout(&certs()).contains("kept intermediate of cluster1"));
    assert_eq!(files(dir.path()), before);
    for cluster in ["cluster1", "cluster2"] {
        let verified = Command::new("openssl")
            .args(["verify", "-CAfile", "root-cert.pem", &format!("{cluster}/ca-cert.pem")])
            .current_dir(dir.path())
            .output()
            .expect("openssl runs");
        assert!(verified.status.success(), "{}", stderr(&verified));
    }
}

#[test]
fn a_token_key_is_made_once_and_openssl_reads_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("keys").display().to_string();
    let make = |cluster: &str, kid: &str| {
        run(&[
            "mesh",
            "token-key",
            "-f",
            "examples/two-clusters",
            "--cluster",
            cluster,
            "--kid",
            kid,
            "--dir",
            &out,
        ])
    };
    let made = make("cluster1", "c1-2026");
    assert!(stderr(&made).contains("made "), "{}", stderr(&made));
    let again = make("cluster1", "c1-2026");
    assert!(stderr(&again).contains("kept "), "{}", stderr(&again));
    assert_eq!(stdout(&made), stdout(&again));
    let file = dir.path().join("keys/c1-2026.pem");
    assert_eq!(std::fs::metadata(&file).expect("a key").permissions().mode() & 0o777, 0o600);
    let public = Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(&file)
        .output()
        .expect("openssl runs");
    let bytes = public.stdout.last_chunk::<32>().expect("a public key");
    let wanted = format!("{{kid: \"c1-2026\", publicKey: {}}}", policy::key::PublicKey::from_bytes(*bytes));
    assert!(stdout(&made).contains(&wanted), "{}", stdout(&made));
    assert!(stdout(&made).contains("\n  key: \"c1-2026:"), "{}", stdout(&made));
    assert_ne!(stdout(&make("cluster1", "c1-2027")), stdout(&made));
    // What OpenSSL makes is taken as it is; another kind of key is not.
    let genpkey = |algorithm: &str, name: &str| {
        let args = ["genpkey", "-algorithm", algorithm, "-out", name];
        let made = Command::new("openssl").args(args).current_dir(dir.path().join("keys")).output();
        assert!(made.expect("openssl runs").status.success());
    };
    genpkey("ed25519", "theirs.pem");
    assert!(stdout(&make("cluster2", "theirs")).contains("key: \"theirs:"));
    genpkey("rsa", "rsa.pem");
    let bad = make("cluster2", "rsa");
    assert!(
        stderr(&bad).contains("holds no Ed25519 key") && bad.status.code() == Some(3),
        "{}",
        stderr(&bad)
    );
    let elsewhere = make("mars", "mars");
    assert!(stderr(&elsewhere).contains("it has cluster1, cluster2"), "{}", stderr(&elsewhere));
    assert!(!dir.path().join("keys/mars.pem").exists());
}

/// The Envoys whose command line names a directory.
fn envoys_of(dir: &Path) -> usize {
    let name = dir.display().to_string();
    let mut count = 0;
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let mut line = Vec::new();
        if let Ok(mut file) = std::fs::File::open(entry.path().join("cmdline")) {
            file.read_to_end(&mut line).unwrap_or_default();
        }
        let line = String::from_utf8_lossy(&line);
        count += usize::from(
            line.contains(&name) && line.contains("--disable-hot-restart") && !line.starts_with("sh"),
        );
    }
    count
}

#[test]
fn a_lab_whose_host_is_killed_with_minus_9_leaves_no_envoy() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("lab");
    let mut lab = isthmus()
        .args(["lab", "up", "-f", "examples/two-clusters", "--dir", &place.display().to_string()])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    let said = BufReader::new(lab.stderr.take().expect("a pipe"));
    let up = said.lines().map_while(Result::ok).any(|line| line.contains("the lab is up"));
    assert!(up, "the lab did not come up");
    assert_eq!(envoys_of(&place), 11);
    lab.kill().expect("kill -9");
    lab.wait().expect("it is gone");
    let deadline = Instant::now() + Duration::from_secs(60);
    while envoys_of(&place) > 0 {
        assert!(Instant::now() < deadline, "{} Envoys are left", envoys_of(&place));
        std::thread::yield_now();
    }
}

#[test]
fn the_reference_is_what_the_binary_says() {
    let path = repository().join("docs/cli.md");
    let said = isthmus::cli::reference();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &said).expect("a write");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == said,
        "docs/cli.md is out of date: run BLESS=1 cargo test -p isthmus-tests --test cli"
    );
}

#[test]
fn a_mesh_with_a_ca_of_its_own_is_tested_all_the_same() {
    let example = repository().join("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let read = |name: &str| std::fs::read_to_string(example.join(name)).expect("a file");
    let mesh = read("mesh.yaml")
        .replace("    network: network1\n", "    network: network1\n    issuers: [\"CN=Corp CA 1,O=Corp\"]\n")
        .replace(
            "    network: network2\n",
            "    network: network2\n    issuers: [\"CN=Corp CA 2,O=Corp\"]\n",
        );
    let policies = format!("policies: [{}]", example.join("policies").display());
    std::fs::write(dir.path().join("mesh.yaml"), mesh).expect("a write");
    std::fs::write(
        dir.path().join("cases.yaml"),
        read("cases.yaml").replace("policies: [policies]", &policies),
    )
    .expect("a write");
    let place = dir.path().display().to_string();
    let tested = run(&["test", "-f", &place]);
    assert!(stdout(&tested).ends_with("16 passed, 0 failed\n"), "{}{}", stdout(&tested), stderr(&tested));
    let certs = run(&["mesh", "certs", "-f", &place]);
    assert!(stderr(&certs).contains("has a CA of its own"), "{}", stderr(&certs));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut check = isthmus()
        .args(["check", "-f", "examples/two-clusters/broken"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(check.stdout.take());
    let ended = check.wait_with_output().expect("it ends");
    let talk = "`isthmus explain ISM008` says more of a finding\n";
    assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(1), talk), "its talk, and no error");
}

#[test]
fn a_lab_takes_a_rollout_and_ends_when_it_is_told_or_interrupted() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("lab").display().to_string();
    for way in ["down", "interrupt"] {
        let mut lab = isthmus()
            .args(["lab", "up", "-f", "examples/two-clusters", "--dir", &place])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut said = BufReader::new(lab.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("the lab is up")), "the lab did not come up");
        let second = run(&["lab", "up", "-f", "examples/two-clusters", "--dir", &place]);
        assert!(stderr(&second).contains("is up in"), "{}", stderr(&second));
        let rolled = run(&["rollout", "-f", "examples/two-clusters", "--lab", &place]);
        assert!(stdout(&rolled).contains("cluster1: plan"), "{}", stderr(&rolled));
        if way == "down" {
            let down = run(&["lab", "down", "--dir", &place]);
            assert_eq!((down.status.code(), stderr(&down).as_str()), (Some(0), "down\n"));
        } else {
            let signal = Command::new("kill").args(["-INT", &lab.id().to_string()]).status();
            assert!(signal.expect("kill runs").success());
        }
        assert!(said.any(|line| line == "11 Envoys ended"), "{way}");
        assert_eq!(lab.wait().expect("it ends").code(), Some(0), "{way}");
        assert_eq!(envoys_of(Path::new(&place)), 0, "{way}");
    }
}

#[test]
fn every_page_of_a_finding_can_be_read_on_the_command_line() {
    let pages = repository().join("docs/findings");
    let mut count = 0;
    for entry in std::fs::read_dir(pages).expect("pages") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().to_lowercase();
        if name.starts_with("ism") {
            let output = run(&["explain", &name]);
            assert!(output.status.success(), "{name}");
            let page = std::fs::read_to_string(&path).expect("a page");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), page.trim_end());
            count += 1;
        }
    }
    assert_eq!(count, policy::finding::Code::ALL.len());

    let unknown = run(&["explain", "ism999"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(stderr(&unknown), "error: no finding is called ism999: docs/findings has them all\n");
}

#[test]
fn an_explanation_says_which_clause_of_which_rule_failed_on_what() {
    let explain = |from: &str, more: &[&str]| {
        let example = repository().join("examples/two-clusters");
        let mut arguments = vec!["explain", "-f", example.to_str().expect("text"), "--from", from];
        arguments.push("ledger.payments:8080/v1/accounts");
        arguments.extend(more);
        let output = run(&arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = explain("cluster2/sample/sleep", &[]);
    assert_eq!(code, Some(1));
    for line in [
        "arrives in cluster1, from cluster2, verified by certificate",
        "allow treasury-reads: does not hold",
        "namespaces: sample, and wanted is treasury",
        "deny by ledger/no-rule-matched, at the destination",
    ] {
        assert!(said.contains(line), "{line} in\n{said}");
    }
    let (code, said) = explain("cluster2/treasury/batch", &["-o", "json"]);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(json["items"][0]["reason"], "ledger/treasury-reads");
    let rules = "/items/0/steps/2/walk/sections/0/rules/1/holds";
    assert_eq!(json.pointer(rules), Some(&serde_json::Value::Bool(true)), "{json:#}");
    let (code, _) = explain("cluster2/treasury/batch", &["--level", "unknown"]);
    assert_eq!(code, Some(1));
    // This mesh has no tokens, so that none proves anything.
    let (code, said) = explain("cluster2/treasury/batch", &["--level", "token"]);
    assert!(code == Some(1) && said.contains("from cluster2, claimed"), "{said}");
}
