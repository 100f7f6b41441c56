//! What a case expects.

use policy::document::{self, Fields, Node, Value};
use policy::finding::{Code, Finding};
use policy::name::ClusterName;

use super::super::{Expectation, ShadowWanted, TagsWanted};

const VERDICTS: [(&str, &str); 2] = [("allow", "allow"), ("deny", "deny")];
const SHADOW: [(&str, &str); 3] = [("allow", "allow"), ("deny", "deny"), ("none", "none")];

pub(super) fn expectation(node: Node, findings: &mut Vec<Finding>) -> Option<Expectation> {
    let mut fields = Fields::open(node, "expect", findings)?;
    let missing = Finding {
        at: fields.at().clone(),
        code: Code::MissingKey,
        message: "this expect has no \"verdict\"".to_owned(),
        hint: "add verdict: to it".to_owned(),
    };
    let before = fields.findings().len();
    let verdict = fields.optional_choice("verdict", &VERDICTS);
    if verdict.is_none() && fields.findings().len() == before {
        fields.findings().push(missing);
    }
    let reason = fields.optional_value::<String>("reason");
    let status = fields.optional_value::<u16>("status");
    let source = fields.optional_value::<String>("source");
    let level = fields.optional_value::<String>("level");
    let tags = fields.optional("tags").and_then(|node| tags(node, fields.findings()));
    let served = fields.optional("servedBy").map(several);
    let served = served.map(|nodes| {
        let names = nodes.into_iter();
        names
            .filter_map(|node| document::parse::<ClusterName>(node, "servedBy", fields.findings()))
            .collect::<Vec<_>>()
    });
    let shadow = fields.optional("shadow").and_then(|node| shadow(node, fields.findings()));
    let breach = fields.optional_value::<bool>("breach");
    fields.close();
    Some(Expectation {
        verdict: verdict?.value,
        reason: reason.map(|reason| reason.value),
        status: status.map(|status| status.value),
        source: source.map(|source| source.value),
        level: level.map(|level| level.value),
        tags,
        served_by: served.map(|names| names.into_iter().map(|name| name.value).collect()),
        shadow,
        breach: breach.map(|breach| breach.value),
    })
}

/// A list, or a single value as a list of one.
fn several(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(nodes) => nodes,
        value @ (Value::Null | Value::Typed(_) | Value::Text(_) | Value::Map(_)) => {
            vec![Node { at: node.at, value }]
        }
    }
}

/// A mapping of tags, or `none`.
fn tags(node: Node, findings: &mut Vec<Finding>) -> Option<TagsWanted> {
    if node.value == Value::Text("none".to_owned()) {
        return Some(TagsWanted::None);
    }
    let mut fields = Fields::open(node, "tags", findings)?;
    let (cluster, network) =
        (fields.optional_value::<String>("cluster"), fields.optional_value::<String>("network"));
    fields.close();
    Some(TagsWanted::Some {
        cluster: cluster.map(|cluster| cluster.value),
        network: network.map(|network| network.value),
    })
}

/// A mapping with verdict and reason, or the verdict alone.
fn shadow(node: Node, findings: &mut Vec<Finding>) -> Option<ShadowWanted> {
    if let Value::Text(word) = &node.value
        && let Some((_, verdict)) = SHADOW.iter().find(|(known, _)| known == word)
    {
        return Some(ShadowWanted { verdict, reason: None });
    }
    let mut fields = Fields::open(node, "shadow", findings)?;
    let verdict = fields.optional_choice("verdict", &SHADOW);
    let reason = fields.optional_value::<String>("reason");
    fields.close();
    let verdict = verdict.map_or("deny", |verdict| verdict.value);
    Some(ShadowWanted { verdict, reason: reason.map(|reason| reason.value) })
}
