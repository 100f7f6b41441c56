use policy::name::ClusterName;
use serde_json::json;

use super::*;
use crate::plugin::{Deployed, Reach, Span, object};

const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters:
  - {name: eu-1, network: n1, gateway: {address: 192.0.2.1}}
  - {name: us-1, network: n2, gateway: {address: 192.0.2.2}}
";

fn eu() -> ClusterName {
    "eu-1".parse().unwrap()
}

/// The plugins of a cluster whose ledger lets these clusters in.
fn objects(clusters: &str) -> Objects {
    let (mesh, _) = policy::Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap();
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: ledger, namespace: payments}}\nspec: {{services: [ledger], access: {{allow: [{{name: some, from: [{{clusters: [{clusters}]}}]}}]}}}}\n"
    );
    let (policies, _) = policy::Policy::read("a.yaml", &text, mesh.root_namespace());
    let plans = policy::compile(&mesh, &policies).0.unwrap();
    let module = Deployed {
        url: "oci://registry.example/isthmus:v1".parse().unwrap(),
        on_failure: mesh.on_failure(),
        extension: policy::mesh::Extension::default(),
    };
    let parts = plans[&eu()].parts();
    let object = |(role, _, plan): (Role, Option<&Namespace>, Plan)| {
        let reach = Reach { span: Span::All("istio-system"), of: None };
        (format!("isthmus-{}.yaml", role.as_str()), object(role, &plan, reach, &module).unwrap())
    };
    parts.into_iter().map(object).collect()
}

fn told(
    before: &Objects,
    after: &Objects,
    differences: &[(String, Difference)],
) -> (Vec<String>, Vec<String>) {
    let mut found = of(&eu(), "istio-system", (before, after), differences);
    assert_eq!(found.len(), 1);
    let meaning = found.remove(&eu()).unwrap();
    (meaning.changes.iter().map(ToString::to_string).collect(), meaning.untold)
}

#[test]
fn plans_are_read_from_their_objects_and_compared() {
    let (one, two) = (objects("eu-1"), objects("eu-1, us-1"));
    let line = "opens ledger.payments to us-1 where that is proven: ledger/no-rule-matched -> ledger/some";
    assert_eq!(told(&one, &two, &[]), (vec![line.to_owned()], Vec::new()));
    assert_eq!(told(&two, &two, &[]), (Vec::new(), Vec::new()));
    let first = told(&Objects::new(), &two, &[]).0;
    assert!(first.iter().any(|line| line.starts_with("closes ledger.payments to ")), "{first:?}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let (one, mut two) = (objects("eu-1"), objects("eu-1"));
    let inbound = two.get_mut("isthmus-inbound.yaml").unwrap();
    inbound["spec"]["pluginConfig"]["plan"]["schema"] = json!(99);
    let (_, untold) = told(&one, &two, &[]);
    assert!(
        untold[0].starts_with("the plan in WasmPlugin istio-system/isthmus-inbound, which"),
        "{untold:?}"
    );
    let (name, spec) = (
        "WasmPlugin istio-system/isthmus-inbound".to_owned(),
        |url: &str| json!({"kind": "WasmPlugin", "spec": {"url": url, "pluginConfig": {}}}),
    );
    let url = Difference { name, before: Some(spec("oci://a")), after: Some(spec("oci://b")) };
    let rule = Difference {
        name: "DestinationRule shop/isthmus-web".to_owned(),
        before: None,
        after: Some(json!({})),
    };
    let differences =
        [("isthmus-inbound.yaml".to_owned(), url), ("isthmus-destination@shop.web.yaml".to_owned(), rule)];
    assert_eq!(
        told(&one, &one, &differences).1,
        [
            "WasmPlugin istio-system/isthmus-inbound: url, told as YAML alone",
            "DestinationRule shop/isthmus-web: what Istio does by it, told as YAML alone",
        ]
    );
}
