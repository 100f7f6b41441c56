//! Rotations, each state of them judged by openssl.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use isthmus::cert::{Ask, CertError, Hierarchy, LEAF_LIFETIME, Level, RootFiles, Rotation, Signing, step};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use time::{Duration, OffsetDateTime};

use super::{NOW, accepts, accepts_for, files, isthmus, leaf, makes, openssl, quick, told};

const NAMES: [&str; 3] = ["cluster1", "cluster2", "cluster3"];

fn signing(now: OffsetDateTime) -> Signing<'static> {
    Signing { root_key: None, options: quick(), now }
}

fn begun(dir: &Path) -> (Hierarchy, Rotation) {
    let hierarchy = Hierarchy::at(dir);
    hierarchy.ensure(&NAMES, quick(), NOW).expect("a hierarchy");
    hierarchy.begin_rotation(&NAMES, RootFiles::default(), quick(), NOW).expect("a new root");
    let rotation = under_way(&hierarchy);
    (hierarchy, rotation)
}

fn under_way(hierarchy: &Hierarchy) -> Rotation {
    hierarchy.rotation(&NAMES).expect("readable").expect("under way")
}

/// A certificate that a workload holds: of which cluster, by which intermediate, the chain it shows, until when.
struct Held {
    cluster: &'static str,
    intermediate: String,
    chain: String,
    until: OffsetDateTime,
}

fn hold(hierarchy: &Hierarchy, cluster: &'static str, now: OffsetDateTime) -> Held {
    let intermediate = fs::read_to_string(hierarchy.cluster(cluster).join("ca-cert.pem")).expect("a file");
    Held { cluster, intermediate, chain: leaf(hierarchy, cluster, now), until: now + LEAF_LIFETIME }
}

/// Every certificate that still holds is accepted by every cluster.
fn all_accepted(hierarchy: &Hierarchy, held: &[Held], now: OffsetDateTime) -> Result<(), String> {
    let scratch = tempfile::tempdir().expect("a directory");
    for one in held.iter().filter(|one| one.until > now) {
        for by in NAMES {
            let roots = hierarchy.cluster(by).join("root-cert.pem");
            let (yes, said) = accepts_for("sslserver", scratch.path(), &roots, (&one.chain, now));
            if !yes {
                return Err(format!("{by} refuses {} (until {}): {said}", one.cluster, one.until));
            }
        }
    }
    Ok(())
}

/// One way through a rotation: at each turn a cluster that is to go on, perhaps after a while; whether all got through.
fn walk(turns: &[(usize, bool)]) -> Result<bool, TestCaseError> {
    let dir = tempfile::tempdir().expect("a directory");
    let (hierarchy, _) = begun(dir.path());
    let mut now = NOW;
    let mut held: Vec<Held> = NAMES.iter().map(|name| hold(&hierarchy, name, now)).collect();
    for (index, waits) in turns {
        if *waits {
            now += Duration::hours(9);
            // Workloads renew at half their certificates' time. Of those by one intermediate the last stands for all.
            for renewed in NAMES.map(|name| hold(&hierarchy, name, now)) {
                held.retain(|one| one.intermediate != renewed.intermediate);
                held.push(renewed);
            }
        }
        let mut rotation = under_way(&hierarchy);
        let clusters = [NAMES[*index].to_owned()];
        let ask = Ask { clusters: &clusters, applied: true, leaf_lifetime: LEAF_LIFETIME, now };
        let before = rotation.standing().clusters.clone();
        if let Ok(moves) = step(rotation.standing(), ask) {
            for (cluster, to) in moves {
                let roots = hierarchy.cluster(&cluster).join("root-cert.pem");
                let old = fs::read_to_string(&roots).expect("roots");
                hierarchy.advance(&mut rotation, (&cluster, to), signing(now)).expect("a step");
                let new = fs::read_to_string(&roots).expect("roots");
                prop_assert!(old.contains(&new) || new.contains(&old), "istiod would not take it");
                let renewed = hold(&hierarchy, NAMES[*index], now);
                held.retain(|one| one.intermediate != renewed.intermediate);
                held.push(renewed);
            }
            prop_assert!(before != under_way(&hierarchy).standing().clusters);
        }
        if *waits || before != under_way(&hierarchy).standing().clusters {
            prop_assert_eq!(all_accepted(&hierarchy, &held, now), Ok(()));
        }
        if under_way(&hierarchy).standing().clusters.values().all(|level| *level == Level::After) {
            hierarchy.finish_rotation().expect("the end");
            prop_assert_eq!(all_accepted(&hierarchy, &held, now), Ok(()));
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn in_any_order_every_certificate_that_holds_is_accepted_by_every_cluster_at_every_step() {
    let turn = (0..NAMES.len(), prop::bool::weighted(0.3));
    let mut runner = TestRunner::new(Config { cases: 4, failure_persistence: None, ..Config::default() });
    runner.run(&prop::collection::vec(turn, 18), |turns| walk(&turns).map(drop)).expect("trust holds");
    let through: Vec<(usize, bool)> = (0..4).flat_map(|_| (0..3).map(|index| (index, true))).collect();
    assert!(walk(&through).expect("trust holds"), "nobody got through");
}

/// The files of each cluster at each level, and what its workloads show there.
fn every_level(dir: &Path) -> BTreeMap<(Level, &'static str), (String, String)> {
    let (hierarchy, mut rotation) = begun(dir);
    let mut all = BTreeMap::new();
    for level in Level::ALL {
        for name in NAMES {
            hierarchy.advance(&mut rotation, (name, level), signing(NOW)).expect("a step");
        }
        for name in NAMES {
            let roots = fs::read_to_string(hierarchy.cluster(name).join("root-cert.pem")).expect("roots");
            all.insert((level, name), (roots, leaf(&hierarchy, name, NOW)));
        }
    }
    all
}

#[test]
fn openssl_accepts_neighbouring_levels_and_shows_what_a_wrong_order_breaks() {
    let dir = tempfile::tempdir().expect("a directory");
    let all = every_level(dir.path());
    let scratch = tempfile::tempdir().expect("a directory");
    let roots = scratch.path().join("roots.pem");
    for (from, by) in Level::ALL.into_iter().flat_map(|from| Level::ALL.map(|by| (from, by))) {
        fs::write(&roots, &all[&(by, "cluster2")].0).expect("a file");
        let (yes, said) = accepts(scratch.path(), &roots, &all[&(from, "cluster1")].1, NOW);
        let under_new = from >= Level::Signed;
        let trusted = if under_new { by != Level::Before } else { by != Level::After };
        assert_eq!(yes, trusted, "{from:?} before {by:?}: {said}");
        let apart = (from as usize).abs_diff(by as usize);
        assert!(yes || apart > 1, "{from:?} and {by:?} are neighbours");
    }
}

#[test]
fn a_step_out_of_order_is_refused_by_the_files_themselves_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (hierarchy, mut rotation) = begun(dir.path());
    let refused = |hierarchy: &Hierarchy, rotation: &mut Rotation, to: Level| {
        let before = files(dir.path());
        let error = hierarchy.advance(rotation, ("cluster1", to), signing(NOW)).expect_err("refused");
        assert_eq!(files(dir.path()), before);
        assert!(matches!(error, CertError::BreaksTrust { .. }), "{}", told(&error));
        told(&error)
    };
    // Nobody trusts the new root yet; then all but one do.
    assert!(refused(&hierarchy, &mut rotation, Level::Signed).contains("cluster1"));
    for name in ["cluster1", "cluster2"] {
        hierarchy.advance(&mut rotation, (name, Level::Both), signing(NOW)).expect("a step");
    }
    let said = refused(&hierarchy, &mut rotation, Level::Signed);
    assert!(said.contains("cluster3 would not accept the workloads of cluster1"), "{said}");
    // All trust both, and others still sign under the old one.
    hierarchy.advance(&mut rotation, ("cluster3", Level::Both), signing(NOW)).expect("a step");
    hierarchy.advance(&mut rotation, ("cluster1", Level::Signed), signing(NOW)).expect("a step");
    let said = refused(&hierarchy, &mut rotation, Level::After);
    assert!(said.contains("cluster1 would not accept the workloads of cluster2"), "{said}");
}

#[test]
fn a_new_intermediate_has_the_name_of_the_old_one_and_both_are_accepted_side_by_side() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path());
    hierarchy.ensure(&NAMES, quick(), NOW).expect("a hierarchy");
    let old = hold(&hierarchy, "cluster1", NOW);
    let old_file = fs::read(hierarchy.cluster("cluster1").join("ca-cert.pem")).expect("a file");
    let later = NOW + Duration::hours(1);
    hierarchy.rotate_intermediate("cluster1", None, quick(), later).expect("a new one");
    let new = hold(&hierarchy, "cluster1", later);
    all_accepted(&hierarchy, &[old, new], later).expect("both");
    let subject = |file: &str| {
        makes(dir.path(), &["x509", "-in", file, "-noout", "-subject", "-issuer", "-nameopt", "RFC2253"])
    };
    let serial = |file: &str| makes(dir.path(), &["x509", "-in", file, "-noout", "-serial", "-pubkey"]);
    assert_eq!(subject("cluster1/ca-cert.pem"), subject("cluster1.old/ca-cert.pem"));
    assert_ne!(serial("cluster1/ca-cert.pem"), serial("cluster1.old/ca-cert.pem"));
    assert_eq!(fs::read(dir.path().join("cluster1.old/ca-cert.pem")).expect("kept"), old_file);
    let again = hierarchy.rotate_intermediate("cluster1", None, quick(), later).expect_err("one is kept");
    assert!(told(&again).contains("--drop"), "{}", told(&again));
    assert!(hierarchy.drop_intermediate("cluster1").expect("dropped"));
    assert!(!hierarchy.drop_intermediate("cluster1").expect("nothing left"));
    hierarchy.rotate_intermediate("cluster1", None, quick(), later).expect("another");
}

#[test]
fn a_change_that_was_cut_short_is_told_and_ended_by_the_same_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path());
    hierarchy.ensure(&NAMES, quick(), NOW).expect("a hierarchy");
    hierarchy.rotate_intermediate("cluster1", None, quick(), NOW).expect("a new one");
    let finished = files(dir.path());
    // Cut between the two moves: the old files are away, the new ones not yet in their place.
    fs::rename(dir.path().join("cluster1"), dir.path().join("cluster1.new")).expect("moved");
    let said = told(&hierarchy.ensure(&NAMES, quick(), NOW).expect_err("told"));
    assert!(
        said.contains("cluster1.new was left half done") && said.contains("rotate intermediate"),
        "{said}"
    );
    assert!(hierarchy.bundle("cluster1").is_err());
    hierarchy.rotate_intermediate("cluster1", None, quick(), NOW).expect("ended");
    assert_eq!(files(dir.path()), finished);
    // Cut while the new ones were written: they were never in force and are made anew.
    hierarchy.drop_intermediate("cluster1").expect("dropped");
    let half = dir.path().join("cluster1.new");
    fs::create_dir(&half).expect("a directory");
    fs::write(half.join("ca-key.pem"), "half").expect("a file");
    hierarchy.rotate_intermediate("cluster1", None, quick(), NOW).expect("a new one");
    assert!(!half.exists());
    all_accepted(&hierarchy, &[hold(&hierarchy, "cluster1", NOW)], NOW).expect("accepted");
}

#[test]
fn whatever_reads_the_ca_tells_of_a_change_that_was_cut_short() {
    let mesh = Example(tempfile::tempdir().expect("a directory"));
    assert_eq!(mesh.run(&["mesh", "certs", "--key", "p256"]).0, 0);
    fs::rename(mesh.0.path().join("cluster1"), mesh.0.path().join("cluster1.new")).expect("moved");
    for verb in [["mesh", "trust"].as_slice(), &["mesh", "certs"], &["check"]] {
        let (code, _, said) = mesh.run(verb);
        assert!(code == 3 && said.contains("cluster1.new was left half done"), "{verb:?}: {code} {said}");
    }
    assert_eq!(mesh.run(&["mesh", "rotate", "intermediate", "cluster1"]).0, 0);
    assert_eq!(mesh.run(&["mesh", "trust"]).0, 0);
}

#[test]
fn a_cluster_that_comes_during_a_rotation_waits_until_it_has_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let (hierarchy, _) = begun(dir.path());
    let before = files(dir.path());
    hierarchy.ensure(&NAMES, quick(), NOW).expect("the others are as they were");
    let more = [&NAMES[..], &["cluster4"]].concat();
    let said = told(&hierarchy.ensure(&more, quick(), NOW).expect_err("it waits"));
    assert!(said.contains("cluster4 has no intermediate") && said.contains("--status"), "{said}");
    assert_eq!(files(dir.path()), before);
}

/// The example's CA in a directory, and the command line on it.
struct Example(tempfile::TempDir);

impl Example {
    fn run(&self, verb: &[&str]) -> (i32, String, String) {
        let certs = self.0.path().display().to_string();
        isthmus(&[verb, &["-f", "examples/two-clusters", "--certs", &certs]].concat())
    }

    fn rotate(&self, more: &[&str]) -> (i32, String, String) {
        self.run(&[&["mesh", "rotate", "root", "--key", "p256"], more].concat())
    }

    /// Takes a step, after which everybody accepts everybody; what it wrote.
    fn goes(&self, more: &[&str]) -> String {
        let (code, wrote, said) = self.rotate(more);
        assert_eq!(code, 0, "{more:?}: {said}");
        let (code, matrix, _) = self.run(&["mesh", "trust"]);
        assert_eq!((code, matrix.matches("yes").count()), (0, 4), "{matrix}");
        wrote
    }

    /// A step that is not taken, for this reason.
    fn stays(&self, more: &[&str], wanted: &str) {
        let (code, wrote, said) = self.rotate(more);
        assert!(code == 1 && wrote.is_empty() && said.contains(wanted), "{more:?}: {code} {wrote} {said}");
    }
}

#[test]
fn the_command_line_takes_a_mesh_from_one_root_to_another_and_refuses_to_hurry() {
    let mesh = Example(tempfile::tempdir().expect("a directory"));
    assert_eq!(mesh.run(&["mesh", "certs", "--key", "p256"]).0, 0);
    let before = files(mesh.0.path());
    assert_eq!(mesh.rotate(&["--cluster", "cluster3"]).0, 3);
    assert_eq!(files(mesh.0.path()), before);
    let wrote = mesh.goes(&["--cluster", "cluster2"]);
    assert_eq!(
        wrote,
        "new root: O=Istio, CN=Root CA 2\ncluster2 trusts both roots, signs under the old root\n"
    );
    mesh.stays(&["--cluster", "cluster2", "--applied"], "as cluster1 would refuse its workloads");
    assert_eq!(mesh.goes(&[]), "cluster1 trusts both roots, signs under the old root\n");
    mesh.stays(&[], "then say --applied");
    mesh.goes(&["--applied"]);
    mesh.stays(&["--applied"], "workloads may hold certificates under the old root until");
    mesh.stays(&["--applied"], " UTC: wait, or restart them all and say --leaf-lifetime 0s");
    assert_eq!(mesh.rotate(&["--applied", "--leaf-lifetime", "soon"]).0, 2);
    let wrote = mesh.goes(&["--applied", "--leaf-lifetime", "0s"]);
    assert!(wrote.ends_with("O=Istio, CN=Root CA 2 is the root\n"), "{wrote}");
    assert!(mesh.0.path().join("root.old/root-key.pem").exists());
    assert_eq!(mesh.goes(&["--drop"]), "removed the root before this one\n");
    assert_eq!(mesh.rotate(&["--drop"]).0, 1);
    let (_, wrote, _) = mesh.run(&["mesh", "certs", "--key", "p256"]);
    assert!(wrote.starts_with("kept root in ") && wrote.contains("kept intermediate of cluster1"), "{wrote}");
}

#[test]
fn the_status_says_how_far_a_rotation_is_and_what_comes_next() {
    let mesh = Example(tempfile::tempdir().expect("a directory"));
    assert_eq!(mesh.run(&["mesh", "certs", "--key", "p256"]).0, 0);
    assert_eq!(mesh.goes(&["--status"]), "no rotation of the root is under way\n");
    mesh.goes(&[]);
    let status = mesh.goes(&["--status"]);
    let wanted = "cluster2 trusts both roots, signs under the old root\nnext: not now: what the step before";
    assert!(status.contains(wanted), "{status}");
    let status = mesh.goes(&["--status", "--applied", "--cluster", "cluster2"]);
    assert!(status.ends_with("next: cluster2 trusts both roots, signs under the new root\n"), "{status}");
    mesh.goes(&["--applied", "--cluster", "cluster1"]);
    let json: serde_json::Value =
        serde_json::from_str(&mesh.goes(&["--status", "-o", "json"])).expect("JSON");
    let cluster = |name: &str, signs: &str| serde_json::json!({"name": name, "trustsOld": true, "trustsNew": true, "signsUnder": signs});
    let wanted = serde_json::json!([cluster("cluster1", "new"), cluster("cluster2", "old")]);
    assert_eq!((&json["kind"], &json["clusters"]), (&"RootRotation".into(), &wanted));
}

#[test]
fn the_command_line_changes_an_intermediate_and_keeps_the_one_before_until_it_is_dropped() {
    let mesh = Example(tempfile::tempdir().expect("a directory"));
    assert_eq!(mesh.run(&["mesh", "certs", "--key", "p256"]).0, 0);
    let rotate = |more: &[&str]| {
        mesh.run(&[&["mesh", "rotate", "intermediate", "cluster1", "--key", "p256"], more].concat())
    };
    let serial = || makes(mesh.0.path(), &["x509", "-in", "cluster1/ca-cert.pem", "-noout", "-serial"]);
    let before = serial();
    let (code, wrote, said) = rotate(&[]);
    assert!(code == 0 && wrote.starts_with("made a new intermediate of cluster1 in "), "{wrote}{said}");
    assert_ne!(serial(), before);
    mesh.goes(&["--status"]);
    let (code, _, said) = rotate(&[]);
    assert!(code == 3 && said.contains("cluster1.old is still kept"), "{said}");
    assert_eq!(rotate(&["--drop"]).1, "removed the intermediate of cluster1 before this one\n");
    assert_eq!(rotate(&["--drop"]).1, "nothing is kept of cluster1\n");
    let (code, _, said) = mesh.run(&["mesh", "rotate", "intermediate", "cluster3"]);
    assert!(code == 3 && said.contains("it has cluster1, cluster2"), "{said}");
}

#[test]
fn a_rotation_can_be_turned_back_before_its_last_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let (hierarchy, mut rotation) = begun(dir.path());
    let mut held: Vec<Held> = NAMES.iter().map(|name| hold(&hierarchy, name, NOW)).collect();
    for (level, name) in
        [Level::Both, Level::Signed].into_iter().flat_map(|level| NAMES.map(|name| (level, name)))
    {
        hierarchy.advance(&mut rotation, (name, level), signing(NOW)).expect("a step");
        held.push(hold(&hierarchy, name, NOW));
    }
    for name in NAMES {
        fs::remove_dir_all(hierarchy.cluster(name)).expect("removed");
        fs::rename(dir.path().join(format!("{name}.old")), hierarchy.cluster(name)).expect("put back");
        held.push(hold(&hierarchy, name, NOW));
        all_accepted(&hierarchy, &held, NOW).expect("everybody");
    }
    assert!(under_way(&hierarchy).standing().clusters.values().all(|level| *level == Level::Both));
    let later = NOW + LEAF_LIFETIME;
    let old = fs::read_to_string(dir.path().join("root-cert.pem")).expect("a root");
    held = NAMES.iter().map(|name| hold(&hierarchy, name, later)).collect();
    for name in NAMES {
        fs::write(hierarchy.cluster(name).join("root-cert.pem"), &old).expect("a file");
        all_accepted(&hierarchy, &held, later).expect("everybody");
    }
    fs::remove_dir_all(dir.path().join("root.new")).expect("removed");
    hierarchy.ensure(&NAMES, quick(), later).expect("as it was");
}

#[test]
fn roots_of_others_stay_and_a_file_without_its_last_line_end_is_added_to_rightly() {
    let dir = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::at(dir.path().join("certs"));
    hierarchy.ensure(&NAMES, quick(), NOW).expect("a hierarchy");
    let partner = Hierarchy::at(dir.path().join("partner"));
    partner.ensure(&["partner"], quick(), NOW).expect("a partner");
    let theirs = fs::read_to_string(partner.root_certificate()).expect("a root");
    let roots = hierarchy.cluster("cluster1").join("root-cert.pem");
    let text = || fs::read_to_string(&roots).expect("roots");
    let own = text();
    fs::write(&roots, format!("{own}{}", theirs.trim_end())).expect("a file");
    hierarchy.begin_rotation(&NAMES, RootFiles::default(), quick(), NOW).expect("a new root");
    let mut rotation = under_way(&hierarchy);
    let visitor = leaf(&partner, "partner", NOW);
    for (level, name) in Level::ALL.into_iter().flat_map(|level| NAMES.map(|name| (level, name))) {
        let before = text();
        hierarchy.advance(&mut rotation, (name, level), signing(NOW)).expect("a step");
        assert!(before.contains(&text()) || text().contains(&before), "istiod would not take it");
        let (yes, said) = accepts(dir.path(), &roots, &visitor, NOW);
        assert!(yes, "{name} at {level:?}: the partner is refused: {said}");
    }
    let new = fs::read_to_string(dir.path().join("certs/root.new/root-cert.pem")).expect("a root");
    assert_eq!(text(), theirs + &new);
}

/// What the last step moves, in its order.
const MOVES: [(&str, &str); 4] = [
    ("root-key.pem", "root.old/root-key.pem"),
    ("root.new/root-key.pem", "root-key.pem"),
    ("root-cert.pem", "root.old/root-cert.pem"),
    ("root.new/root-cert.pem", "root-cert.pem"),
];

/// A rotation before its last step, without the keys of the roots that lie off line.
fn before_the_last_step(dir: &Path, off_line: &[&str]) -> Hierarchy {
    let (hierarchy, mut rotation) = begun(dir);
    for (level, name) in Level::ALL.into_iter().flat_map(|level| NAMES.map(|name| (level, name))) {
        hierarchy.advance(&mut rotation, (name, level), signing(NOW)).expect("a step");
    }
    off_line.iter().for_each(|key| fs::remove_file(dir.join(key)).expect("a key"));
    hierarchy
}

#[test]
fn the_last_step_can_be_cut_short_anywhere_and_be_taken_again() {
    let (old, new) = ("root-key.pem", "root.new/root-key.pem");
    for (off_line, cut) in [&[][..], &[old], &[new], &[old, new]]
        .into_iter()
        .flat_map(|keys| [0, 1, 2, 3].map(|cut| (keys, cut)))
    {
        let dir = tempfile::tempdir().expect("a directory");
        let hierarchy = before_the_last_step(dir.path(), off_line);
        let at = |name: &str| dir.path().join(name);
        let wanted = MOVES.map(|(from, to)| (to, fs::read(at(from)).ok()));
        fs::create_dir(at("root.old")).expect("a directory");
        for (from, to) in MOVES.iter().take(cut).filter(|(from, _)| at(from).exists()) {
            fs::rename(at(from), at(to)).expect("moved");
        }
        under_way(&hierarchy);
        hierarchy.finish_rotation().expect("the end");
        for (name, bytes) in wanted {
            assert_eq!(fs::read(at(name)).ok(), bytes, "{off_line:?} {cut}: {name}");
        }
        assert!(hierarchy.rotation(&NAMES).expect("readable").is_none());
        assert!(hierarchy.drop_root(&NAMES).expect("dropped"));
        assert!(!at("cluster1.old").exists() && !at("root.old").exists());
    }
}

/// A root of one name with a key of its own, that says by which key it is known or does not.
fn root_of_one_name(dir: &Path, name: &str, says: bool) -> (PathBuf, PathBuf) {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    makes(dir, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    let identifier = if says { "subjectKeyIdentifier=hash" } else { "subjectKeyIdentifier=none" };
    let request = ["req", "-x509", "-new", "-key", &key, "-subj", "/O=Acme/CN=Root", "-days", "900"];
    let extensions =
        ["-addext", identifier, "-addext", "keyUsage=critical,keyCertSign", "-out", &certificate];
    makes(dir, &[&request[..], &extensions].concat());
    (dir.join(certificate), dir.join(key))
}

/// Takes every step to a new root of the same name, while openssl too accepts everybody; how the last one ended.
fn to_a_root_of_the_same_name(dir: &Path, says: bool) -> Result<(), CertError> {
    let now = OffsetDateTime::now_utc() + Duration::hours(1); // after all that openssl makes meanwhile
    let (one, two) = (root_of_one_name(dir, "one", says), root_of_one_name(dir, "two", says));
    let hierarchy = Hierarchy::at(dir.join("certs"));
    let of = |(certificate, key)| RootFiles { certificate: Some(certificate), key: Some(key) };
    hierarchy.ensure_under(of((&one.0, &one.1)), &NAMES, quick(), now).expect("a hierarchy");
    if !says {
        NAMES.iter().for_each(|name| without_identifiers(dir, &hierarchy.cluster(name)));
    }
    hierarchy.begin_rotation(&NAMES, of((&two.0, &two.1)), quick(), now).expect("a new root");
    let mut rotation = under_way(&hierarchy);
    let with_key = Signing { root_key: Some(&two.1), options: quick(), now };
    for (level, name) in Level::ALL.into_iter().flat_map(|level| NAMES.map(|name| (level, name))) {
        hierarchy.advance(&mut rotation, (name, level), with_key)?;
        let held = NAMES.map(|name| hold(&hierarchy, name, now));
        all_accepted(&hierarchy, &held, now).expect("openssl can tell them apart");
    }
    Ok(())
}

#[test]
fn a_root_of_the_same_name_is_taken_only_where_proxies_can_tell_it_from_the_old_one() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    to_a_root_of_the_same_name(dirs[0].path(), true).expect("told apart by their keys' identifiers");
    let said = told(&to_a_root_of_the_same_name(dirs[1].path(), false).expect_err("nobody can tell"));
    assert!(said.contains("several CAs are called"), "{said}");
}

/// Signs a cluster's intermediate again, without the identifiers of keys.
fn without_identifiers(path: &Path, dir: &Path) {
    let (cert, key) = (dir.join("ca-cert.pem"), dir.join("ca-key.pem"));
    fs::write(
        path.join("plain.cnf"),
        "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=none\nauthorityKeyIdentifier=none\n",
    )
    .expect("a file");
    let key = key.display().to_string();
    makes(
        path,
        &["req", "-new", "-key", &key, "-subj", "/O=Istio/CN=Intermediate CA/L=x", "-out", "plain.csr"],
    );
    let out = cert.display().to_string();
    makes(
        path,
        &[
            "x509",
            "-req",
            "-in",
            "plain.csr",
            "-CA",
            "one.pem",
            "-CAkey",
            "one.key",
            "-days",
            "800",
            "-extfile",
            "plain.cnf",
            "-set_serial",
            "9",
            "-out",
            &out,
        ],
    );
    let own = fs::read_to_string(&cert).expect("a file");
    let (yes, said) = openssl(path, &["x509", "-in", &out, "-noout", "-ext", "authorityKeyIdentifier"]);
    assert!(yes && !said.contains("keyid"), "{said}");
    let root = fs::read_to_string(path.join("one.pem")).expect("a file");
    fs::write(dir.join("cert-chain.pem"), own + &root).expect("a file");
}
