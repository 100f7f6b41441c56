use std::collections::BTreeSet;

use super::*;

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  clusters:
  - {name: eu-1, network: one, region: eu, gateway: {address: 10.0.0.1}}
  - {name: eu-2, network: one, region: eu, labels: {ring: early, team.example/owner: pay}}
  - {name: us-1, network: two, region: us, gateway: {address: 10.0.0.2}}
  - {name: us-2, network: two, region: us, labels: {ring: early}}
  - {name: ap-1, network: three, gateway: {address: 10.0.0.3}}
";

fn read(spec: &str) -> (Option<Strategy>, Vec<String>) {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    assert!(findings.is_empty(), "{findings:?}");
    let head = "apiVersion: isthmus.dev/v1alpha1\nkind: RolloutStrategy\nmetadata: {name: careful}\nspec:\n";
    let (strategy, findings) = Strategy::read("s.yaml", &format!("{head}{spec}"), &mesh.unwrap());
    (strategy, findings.iter().map(ToString::to_string).collect())
}

fn clusters(wave: &Wave) -> Vec<&str> {
    wave.clusters.iter().map(ClusterName::as_str).collect()
}

#[test]
fn every_cluster_is_in_the_wave_that_names_it_or_in_the_one_that_takes_the_rest() {
    let (strategy, findings) = read(
        "  waves:
  - {name: canary, clusters: [eu-2], bake: 10m}
  - {name: rest, clusters: ['*'], maxUnavailable: 50%}
  - {name: america, regions: [us], maxUnavailable: 1}
  gates: {applied: 90s, running: {within: 5m, share: 99.5%}, denials: 1%, errors: 10/m, traps: 0}
  onFailure: Undo
",
    );
    assert_eq!(findings, [""; 0]);
    let strategy = strategy.unwrap();
    let [canary, rest, america] = strategy.waves.as_slice() else { panic!("{strategy:?}") };
    assert_eq!(clusters(canary), ["eu-2"]);
    assert_eq!(clusters(rest), ["ap-1", "eu-1"]);
    assert_eq!(clusters(america), ["us-1", "us-2"]);
    assert_eq!((canary.bake, canary.at_once, rest.at_once, america.at_once), (600, 1, 1, 1));
    assert_eq!(strategy.on_failure, OnFailure::Undo);
    let running = Running { within: Duration::from_secs(300), share: "99.5%".parse().unwrap() };
    let gates = Limits {
        applied: Duration::from_secs(90),
        running: Some(running),
        would_deny: None,
        denials: Some(AtMost::Share("1%".parse().unwrap())),
        errors: Some(AtMost::PerMinute(10)),
        traps: Some(0),
    };
    assert_eq!(strategy.gates, gates);
}

#[test]
fn a_cluster_that_is_in_no_wave_or_in_two_is_a_finding() {
    let (strategy, findings) =
        read("  waves:\n  - {name: a, clusters: [eu-*]}\n  - {name: b, networks: [one, two]}\n");
    assert_eq!(strategy, None);
    let told = [
        "s.yaml:6:5: error[ISM003]: cluster ap-1 is in no wave",
        "s.yaml:7:12: error[ISM007]: cluster eu-1 is in waves \"a\" and \"b\"",
        "s.yaml:7:12: error[ISM007]: cluster eu-2 is in waves \"a\" and \"b\"",
    ];
    assert_eq!(findings, told);
}

#[test]
fn a_wave_takes_the_clusters_that_have_all_of_its_labels() {
    let (strategy, findings) = read(
        "  waves:
  - {name: first, labels: {ring: early, team.example/owner: '*'}}
  - {name: second, labels: {ring: 'ear*'}, clusters: [ap-1]}
  - {name: rest, clusters: ['*']}
",
    );
    assert_eq!(
        (strategy, findings),
        (
            None,
            vec!["s.yaml:7:12: error[ISM007]: cluster eu-2 is in waves \"first\" and \"second\"".to_owned()]
        )
    );
    let (strategy, findings) = read(
        "  waves:
  - {name: first, labels: {ring: early}}
  - {name: rest, clusters: ['*']}
",
    );
    assert_eq!(findings, [""; 0]);
    let strategy = strategy.unwrap();
    assert_eq!(clusters(&strategy.waves[0]), ["eu-2", "us-2"]);
    assert_eq!(clusters(&strategy.waves[1]), ["ap-1", "eu-1", "us-1"]);
    let (_, findings) =
        read("  waves:\n  - {name: first, labels: {ring: late}}\n  - {name: rest, clusters: ['*']}\n");
    assert_eq!(findings, ["s.yaml:6:27: error[ISM012]: no cluster of the mesh has the labels {ring: late}"]);
    let (_, findings) = read("  waves:\n  - {name: first, labels: {}}\n  - {name: rest, clusters: ['*']}\n");
    assert_eq!(findings, ["s.yaml:6:27: error[ISM012]: no cluster of the mesh has the labels {}"]);
}

#[test]
fn all_mistakes_are_found_at_once() {
    let (strategy, findings) = read(
        "  waves:
  - {name: a, clusters: [mars, '*'], maxUnavailable: 0, bake: soon}
  - {name: a, cluster: [eu-1]}
  gates: {running: {share: 110%}, denials: few}
  onFailure: Panic
",
    );
    assert_eq!(strategy, None);
    let told = [
        "s.yaml:6:26: error[ISM012]: no cluster of the mesh is \"mars\"",
        "s.yaml:6:54: error[ISM005]: maxUnavailable: \"0\" is no number of clusters",
        "s.yaml:6:63: error[ISM005]: bake: \"soon\" is no span of time",
        "s.yaml:7:5: error[ISM003]: this wave has no clusters",
        "s.yaml:7:12: error[ISM007]: wave \"a\" stands twice",
        "s.yaml:7:15: error[ISM002]: wave has no key \"cluster\"",
        "s.yaml:8:20: error[ISM003]: this running has no \"within\"",
        "s.yaml:8:28: error[ISM005]: share: \"110%\" is no share",
        "s.yaml:8:44: error[ISM005]: denials: \"few\" is no limit",
        "s.yaml:9:14: error[ISM005]: onFailure cannot be \"Panic\"",
    ];
    assert_eq!(findings, told);
}

#[test]
fn a_document_of_another_kind_is_no_strategy() {
    let (mesh, _) = Mesh::read("mesh.yaml", MESH);
    let (strategy, findings) = Strategy::read("s.yaml", MESH, &mesh.unwrap());
    assert_eq!(strategy, None);
    assert!(findings.iter().any(|finding| finding.code == policy::finding::Code::WrongKind), "{findings:?}");
}

#[test]
fn a_share_of_clusters_is_rounded_down_and_never_to_none() {
    let of = |text: &str, all: usize| text.parse::<Count>().unwrap().of(all);
    assert_eq!([of("25%", 7), of("25%", 3), of("100%", 3), of("2", 7), of("0%", 9)], [1, 1, 3, 2, 1]);
}

#[test]
fn without_a_strategy_all_clusters_are_one_wave() {
    let (mesh, _) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap();
    let all: BTreeSet<_> = mesh.clusters().map(|cluster| cluster.name.clone()).collect();
    let strategy = Strategy::all_at_once(all.iter());
    assert_eq!((&strategy.waves[0].clusters, strategy.waves[0].at_once), (&all, 5));
}

#[test]
fn plans_are_tried_first_where_a_wave_says_so_and_then_nothing_is_to_be_denied_unless_that_is_said() {
    let (strategy, findings) = read(
        "  shadowFirst: 10m
  waves:
  - {name: canary, clusters: [eu-2], shadowFirst: 1h}
  - {name: rest, clusters: ['*']}
",
    );
    assert_eq!(findings, [""; 0]);
    let strategy = strategy.unwrap();
    let shadows: Vec<_> = strategy.waves.iter().map(|wave| wave.shadow).collect();
    assert_eq!(shadows, [Some(3600), Some(600)]);
    let running = Running { within: Duration::from_secs(300), share: Share::ALL };
    let none = AtMost::Share(Share::NONE);
    assert_eq!((strategy.gates.running, strategy.gates.would_deny), (Some(running), Some(none)));
    let (strategy, findings) = read(
        "  waves:
  - {name: canary, clusters: [eu-2], shadowFirst: 1h}
  - {name: rest, clusters: ['*']}
  gates: {running: {within: 1m, share: 50%}, wouldDeny: 5/m}
",
    );
    assert_eq!(findings, [""; 0]);
    let strategy = strategy.unwrap();
    let shadows: Vec<_> = strategy.waves.iter().map(|wave| wave.shadow).collect();
    assert_eq!(shadows, [Some(3600), None]);
    assert_eq!(strategy.gates.running.unwrap().within, Duration::from_secs(60));
    assert_eq!(strategy.gates.would_deny, Some(AtMost::PerMinute(5)));
}

#[test]
fn what_of_a_trial_cannot_be_meant_is_a_finding() {
    let (strategy, findings) =
        read("  shadowFirst: 0s\n  waves:\n  - {name: all, clusters: ['*'], shadowFirst: {for: 10m}}\n");
    assert_eq!(strategy, None);
    let told = [
        "s.yaml:5:16: error[ISM005]: shadowFirst: \"0s\" is no time to try plans for, in which something can be seen",
        "s.yaml:7:47: error[ISM004]: shadowFirst must be a single value",
    ];
    assert!(
        findings.len() == 2 && findings.iter().zip(told).all(|(found, told)| found.starts_with(told)),
        "{findings:?}"
    );
    let (strategy, findings) = read("  waves:\n  - {name: all, clusters: ['*']}\n  gates: {wouldDeny: 1%}\n");
    assert_eq!(strategy, None);
    assert_eq!(
        findings,
        [
            "s.yaml:7:22: error[ISM003]: wouldDeny is asked of plans that are tried, and no wave has shadowFirst"
        ]
    );
}
