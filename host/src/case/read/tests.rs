use super::super::*;

const GOOD: &str = "\
suite: a suite
mesh: mesh.yaml
policies: [policies]
cases:
- name: one
  from: {cluster: c1, namespace: a, serviceAccount: b}
  request: {host: s.a}
  expect: {verdict: allow, reason: no-policy}
";

#[test]
fn a_case_has_defaults_for_what_most_leave_out() {
    let (suite, findings) = Suite::read("cases.yaml", GOOD);
    assert_eq!(findings, []);
    let case = &suite.unwrap().cases[0];
    assert_eq!((case.call.request.method.as_str(), case.call.request.path.as_str()), ("GET", "/"));
    assert_eq!(case.call.service().unwrap().to_string(), "s.a");
}

#[test]
fn all_mistakes_of_a_case_file_are_found_in_one_run() {
    let text = GOOD
        .replace("verdict: allow", "verdict: maybe")
        .replace("host: s.a", "hots: s.a, path: x")
        .replace("serviceAccount: b", "serviceAccount: B");
    let (suite, findings) = Suite::read("cases.yaml", &text);
    assert!(suite.is_none());
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "cases.yaml:6:53: error[ISM005]: serviceAccount: \"B\" is not a DNS name",
            "cases.yaml:7:12: error[ISM003]: this request has no \"host\"",
            "cases.yaml:7:13: error[ISM002]: request has no key \"hots\"",
            "cases.yaml:7:30: error[ISM005]: path \"x\" does not begin with a slash",
            "cases.yaml:8:21: error[ISM005]: verdict cannot be \"maybe\"",
        ]
    );
}

/// The names of the cases of an entry, and what is wrong with it.
fn expanded(entry: &str) -> (Vec<String>, Vec<String>) {
    let text = format!("suite: s\nmesh: m\ncases:\n{entry}");
    let (suite, findings) = Suite::read("cases.yaml", &text);
    let names = suite.into_iter().flat_map(|suite| suite.cases).map(|case| case.name.value).collect();
    (names, findings.iter().map(ToString::to_string).collect())
}

#[test]
fn a_list_stands_for_a_case_with_each_of_its_values_and_each_for_variants() {
    let (names, findings) = expanded(
        "- name: n
  from: {cluster: [c1, c2], namespace: a, serviceAccount: b}
  request: {host: s.a}
  expect: {verdict: allow}
  each:
  - {request: {method: [GET, PUT]}}
  - {name: closed, expect: {verdict: deny}}
",
    );
    assert_eq!(findings, [""; 0]);
    let wanted =
        ["n [c1, GET]", "n [c1, PUT]", "n [c2, GET]", "n [c2, PUT]", "n [closed, c1]", "n [closed, c2]"];
    assert_eq!(names, wanted);
}

#[test]
fn what_is_wrong_in_a_matrix_is_said_once_and_in_its_place() {
    let matrix = |from: &str, rest: &str| {
        expanded(&format!("- name: n\n  from: {{cluster: {from}, namespace: a, serviceAccount: b}}\n{rest}"))
            .1
    };
    let good = "  request: {host: s.a}\n  expect: {verdict: allow}\n";
    assert_eq!(
        matrix("[c1, c2]", "  request: {hots: s.a, host: s.a}\n  expect: {}\n  as: proven\n"),
        [
            "cases.yaml:6:13: error[ISM002]: request has no key \"hots\"",
            "cases.yaml:7:11: error[ISM003]: this expect has no \"verdict\"",
            "cases.yaml:8:7: error[ISM005]: as cannot be \"proven\"",
        ]
    );
    let empty = "cases.yaml:5:19: error[ISM005]: this list has no value, so that there is no case";
    assert_eq!(matrix("[]", good), [empty]);
    let many = format!("[{}]", vec!["c"; 101].join(", "));
    let rest = format!(
        "  request: {{host: s.a, path: [{}]}}\n  expect: {{verdict: allow}}\n",
        vec!["/"; 101].join(", ")
    );
    assert_eq!(
        matrix(&many, &rest),
        ["cases.yaml:4:3: error[ISM005]: this stands for more than 10000 cases"]
    );
    for (each, wrong) in [
        ("  each: {}\n", "8:3: error[ISM005]: each takes a list of what sets the cases apart"),
        ("  each: [x]\n", "8:10: error[ISM005]: an item of each is a mapping, like a case"),
        (
            "  each: [{expect: {verdict: allow}}, {expect: {verdict: allow}}]\n",
            "4:9: error[ISM007]: case \"n [allow]\" stands twice",
        ),
        (
            "  misrouted: true\n",
            "8:14: error[ISM005]: misrouted says that it goes to another cluster, and not to which",
        ),
    ] {
        assert_eq!(matrix("c1", &format!("{good}{each}")), [format!("cases.yaml:{wrong}")], "{each}");
    }
}

#[test]
fn a_level_that_no_request_of_a_cluster_can_have_is_a_finding() {
    let mesh = "{apiVersion: isthmus.dev/v1alpha1, kind: Mesh, metadata: {name: m}, spec: {clusters: [{name: c1, network: n1}]}}";
    let mesh = Mesh::read("mesh.yaml", mesh).0.unwrap();
    for (level, wanted) in [
        ("token", &["cases.yaml:9:7: error[ISM005]: c1 signs no tokens"][..]),
        ("trust-domain", &["cases.yaml:9:7: error[ISM005]: the trust domain of c1 does not prove it"]),
        ("claimed", &[]),
    ] {
        let (suite, findings) = Suite::read("cases.yaml", &format!("{GOOD}  as: {level}\n"));
        assert_eq!(findings, []);
        let findings: Vec<String> = suite.unwrap().check(&mesh).iter().map(ToString::to_string).collect();
        assert_eq!(findings, wanted, "{level}");
    }
}
