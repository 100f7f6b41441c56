//! One entry of a file that stands for many cases: lists in the place of a value, and variants under `each`.

use policy::document::{Key, Node, Value};
use policy::finding::{Code, Finding, Place};

/// No entry makes more cases than this: a list too many is a mistake.
const MOST: usize = 10_000;

/// Where a list stands for its items, each in a case of its own.
const LISTS: [&[&str]; 9] = [
    &["from", "cluster"],
    &["from", "namespace"],
    &["from", "serviceAccount"],
    &["from", "outside"],
    &["as"],
    &["to"],
    &["request", "host"],
    &["request", "method"],
    &["request", "path"],
];

/// A case, with what sets it apart from the others of its entry.
type Variant = (Vec<String>, Node);

/// The cases of an entry. What sets one apart is added to its name.
pub(super) fn cases(entry: Node, findings: &mut Vec<Finding>) -> Vec<Node> {
    let mut variants = each(entry, findings);
    for path in LISTS {
        let mut expanded = Vec::new();
        for variant in variants {
            expand(variant, path, findings, &mut expanded);
        }
        if expanded.len() > MOST {
            findings.extend(expanded.first().map(|(_, node)| Finding {
                at: node.at.clone(),
                code: Code::BadValue,
                message: format!("this stands for more than {MOST} cases"),
                hint: "make the lists shorter, or several entries of it".to_owned(),
            }));
            return Vec::new();
        }
        variants = expanded;
    }
    variants.into_iter().map(|(words, node)| named(node, &words)).collect()
}

/// The variants under `each`, each laid over the rest of the entry.
fn each(mut entry: Node, findings: &mut Vec<Finding>) -> Vec<Variant> {
    let Value::Map(entries) = &mut entry.value else { return vec![(Vec::new(), entry)] };
    let Some(place) = entries.iter().position(|(key, _)| key.text == "each") else {
        return vec![(Vec::new(), entry)];
    };
    let (key, node) = entries.remove(place);
    let items = match node.value {
        Value::List(items) if !items.is_empty() => items,
        Value::List(_) | Value::Map(_) | Value::Text(_) | Value::Typed(_) | Value::Null => {
            findings.push(bad(
                &key.at,
                "each takes a list of what sets the cases apart",
                "write each: [{from: {cluster: eu-1}}]",
            ));
            return Vec::new();
        }
    };
    let mut variants = Vec::new();
    for item in items {
        let Value::Map(mut over) = item.value else {
            findings.push(bad(
                &item.at,
                "an item of each is a mapping, like a case",
                "write {from: {cluster: eu-1}}",
            ));
            continue;
        };
        let own = over.iter().position(|(key, _)| key.text == "name").map(|place| over.remove(place).1);
        let mut words = Vec::new();
        // What is expected sets cases apart only where nothing else does.
        let asks = over.iter().any(|(key, _)| key.text != "expect");
        match own.as_ref().and_then(scalar) {
            Some(name) => words.push(name.to_owned()),
            None => over
                .iter()
                .filter(|(key, _)| !asks || key.text != "expect")
                .for_each(|(_, node)| leaves(node, &mut words)),
        }
        let mut case = entry.clone();
        lay(&mut case, over);
        variants.push((words, case));
    }
    variants
}

/// Lays mappings over others; whatever is no mapping takes the place of what was there.
fn lay(under: &mut Node, over: Vec<(Key, Node)>) {
    let Value::Map(entries) = &mut under.value else { return };
    for (key, node) in over {
        match (entries.iter_mut().find(|(known, _)| known.text == key.text), node.value) {
            (Some((_, known)), Value::Map(inner)) if matches!(known.value, Value::Map(_)) => {
                lay(known, inner);
            }
            (Some((_, known)), value) => *known = Node { at: node.at, value },
            (None, value) => entries.push((key, Node { at: node.at, value })),
        }
    }
}

/// Puts each item of a list in its place.
fn expand((words, mut case): Variant, path: &[&str], findings: &mut Vec<Finding>, out: &mut Vec<Variant>) {
    let Some(node) = at(&mut case, path) else { return out.push((words, case)) };
    let Value::List(items) = &mut node.value else { return out.push((words, case)) };
    if items.is_empty() {
        findings.push(bad(
            &node.at,
            "this list has no value, so that there is no case",
            "write a value, or several",
        ));
    }
    for item in std::mem::take(items) {
        let mut words = words.clone();
        words.extend(scalar(&item).map(str::to_owned));
        let mut one = case.clone();
        if let Some(node) = at(&mut one, path) {
            *node = item;
        }
        out.push((words, one));
    }
}

fn at<'n>(node: &'n mut Node, path: &[&str]) -> Option<&'n mut Node> {
    path.iter().try_fold(node, |node, key| {
        let Value::Map(entries) = &mut node.value else { return None };
        entries.iter_mut().find(|(known, _)| known.text == *key).map(|(_, value)| value)
    })
}

fn named(mut case: Node, words: &[String]) -> Node {
    if let (false, Some(name)) = (words.is_empty(), at(&mut case, &["name"]))
        && let Value::Text(text) | Value::Typed(text) = &mut name.value
    {
        text.push_str(&format!(" [{}]", words.join(", ")));
    }
    case
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) | Value::Typed(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// The single values of a variant, in the order of the file.
fn leaves(node: &Node, words: &mut Vec<String>) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|(_, node)| leaves(node, words)),
        Value::Text(text) | Value::Typed(text) => words.push(text.clone()),
        // Their items come into the name when they are put in their places.
        Value::List(_) | Value::Null => {}
    }
}

fn bad(at: &Place, message: &str, hint: &str) -> Finding {
    Finding { at: at.clone(), code: Code::BadValue, message: message.to_owned(), hint: hint.to_owned() }
}
