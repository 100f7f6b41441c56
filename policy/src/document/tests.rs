use super::*;

fn findings_of(text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for node in read("a.yaml", text, &mut findings) {
        let Some(mut fields) = Fields::open(node, "thing", &mut findings) else { continue };
        fields.required_value::<u16>("port");
        fields.optional_values::<crate::pattern::Pattern>("clusters");
        fields.close();
    }
    findings.iter().map(|finding| format!("{finding}; {}", finding.hint)).collect()
}

#[test]
fn all_mistakes_are_found_in_one_run_each_in_its_place() {
    let text = "port: x\nclutsers: [a]\nport: 3\nclusters: [a*b, b]\n";
    assert_eq!(
        findings_of(text),
        [
            "a.yaml:3:1: error[ISM007]: key \"port\" stands twice in this thing; the first is in line 1; keep one of them",
            "a.yaml:1:7: error[ISM005]: port: \"x\" will not do: invalid digit found in string; port takes another kind of value",
            "a.yaml:4:12: error[ISM005]: clusters: \"a*b\" is not a pattern; write an exact value, prefix*, *suffix or *",
            "a.yaml:2:1: error[ISM002]: thing has no key \"clutsers\"; did you mean \"clusters\"?",
        ]
    );
}

#[test]
fn what_is_not_yaml_points_at_its_line() {
    let found = findings_of("port: 1\n  clusters: [\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("a.yaml:2:"), "{found:?}");
}

#[test]
fn aliases_are_refused_and_cannot_blow_up() {
    let found = findings_of("port: &a 1\nclusters: [*a, *a]\n");
    assert!(found[0].contains("a.yaml:2:12: error[ISM001]: aliases are not taken"), "{found:?}");
}

#[test]
fn documents_are_read_apart_and_empty_ones_left_out() {
    let mut findings = Vec::new();
    let nodes = read("a.yaml", "---\n---\na: 1\n---\n# nothing\n---\nb: 2\n", &mut findings);
    assert_eq!((nodes.len(), findings), (2, vec![]));
    assert_eq!((nodes[1].at.line, nodes[1].at.column), (7, 1));
}
