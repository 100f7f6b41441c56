use std::path::Path;

use policy::mesh::Extension;
use serde_json::json;

use super::*;
use crate::rollout::directory;
use crate::rollout::rendered::file_of;

fn ours() -> Value {
    json!({"labels": {"app.kubernetes.io/managed-by": "isthmus"}})
}

fn rule(subsets: &[&str]) -> Value {
    let subsets: Vec<Value> = subsets.iter().map(|name| json!({"name": name})).collect();
    json!({"kind": "DestinationRule", "metadata": ours(), "spec": {"subsets": subsets}})
}

fn service(values: &[&str]) -> Value {
    let mut http: Vec<Value> =
        values.iter().map(|value| json!({"name": value, "match": [{"exact": value}]})).collect();
    http.push(json!({"name": "last"}));
    json!({"kind": "VirtualService", "metadata": ours(), "spec": {"http": http}})
}

/// What is wanted of one service, if it is routed, and what its plugin says.
fn wanted(routed: Option<&[&str]>, plugin: &str) -> Vec<Part> {
    let part = |file: &str, sort: Sort, object: Value| Part {
        file: file.to_owned(),
        sort,
        object: Packed::of(&object),
    };
    let natives = |values: &[&str]| {
        vec![
            part("isthmus-destination@shop.web.yaml", Sort::Native(Kind::DestinationRule), rule(values)),
            part("isthmus-route@shop.web.yaml", Sort::Native(Kind::VirtualService), service(values)),
        ]
    };
    let mut parts = routed.map(natives).unwrap_or_default();
    parts.push(part("isthmus-outbound.yaml", Sort::Plugin, json!({"metadata": ours(), "says": plugin})));
    parts
}

/// Takes the steps, each told in a line: what it does to which file, and the names that then stand there.
fn take(dir: &Path, wanted: Vec<Part>) -> Vec<String> {
    let there = directory::there(dir, &wanted).unwrap();
    let (steps, _) = steps(&there, wanted, |there, wanted| there == wanted);
    let told = steps.iter().map(|(_, step)| {
        directory::take(dir, step).unwrap();
        let name = step.file().trim_end_matches(".yaml");
        match step {
            Step::Write(_, object) => {
                let object = object.open();
                let list = ["/spec/subsets", "/spec/http"].iter().find_map(|list| object.pointer(list));
                let names: Vec<&str> = list
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|item| item["name"].as_str())
                    .collect();
                format!("{name} {}", names.join(" "))
            }
            Step::Remove(_) => format!("{name} goes"),
        }
    });
    told.collect()
}

#[test]
fn a_route_is_there_before_a_filter_asks_for_it_and_until_none_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(
        take(dir, wanted(Some(&["a"]), "one")),
        ["isthmus-destination@shop.web a", "isthmus-route@shop.web a last", "isthmus-outbound "]
    );
    assert_eq!(take(dir, wanted(Some(&["a"]), "one")), [""; 0], "nothing to do");
    assert_eq!(
        take(dir, wanted(Some(&["b"]), "two")),
        [
            "isthmus-destination@shop.web b a",
            "isthmus-route@shop.web b a last",
            "isthmus-outbound ",
            "isthmus-route@shop.web b last",
            "isthmus-destination@shop.web b",
        ]
    );
    assert_eq!(
        take(dir, wanted(None, "three")),
        ["isthmus-outbound ", "isthmus-route@shop.web goes", "isthmus-destination@shop.web goes"]
    );
}

#[test]
fn only_files_of_ours_go() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let files = [
        ("isthmus-inbound@payments.yaml", true),
        ("isthmus-gateway-remote.yaml", true),
        ("isthmus-route@shop.web.yaml", true),
        ("isthmus-upstream.yaml", true),
        // Named as ours are, and not ours.
        ("isthmus-inbound-mine.yaml", false),
        ("isthmus-routes@shop.web.yaml", true),
        ("route@shop.web.yaml", true),
    ];
    for (name, is_ours) in files {
        let object = if is_ours { json!({"metadata": ours()}) } else { json!({"metadata": {}}) };
        std::fs::write(dir.join(name), object.to_string()).unwrap();
    }
    assert_eq!(
        take(dir, wanted(None, "one")),
        [
            "isthmus-outbound ",
            "isthmus-gateway-remote goes",
            "isthmus-inbound@payments goes",
            "isthmus-upstream goes",
            "isthmus-route@shop.web goes"
        ]
    );
}

#[test]
fn a_file_that_nobody_can_read_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("isthmus-route@shop.web.yaml"), "a: [").unwrap();
    assert_eq!(take(dir, wanted(Some(&["a"]), "one")).len(), 3);
}

/// A plugin of one kind in a namespace, under its file.
fn plugin(extension: Extension, namespace: &str, says: &str) -> Part {
    let plugin = json!({
        "kind": "WasmPlugin",
        "metadata": {
            "name": "isthmus-inbound", "namespace": namespace, "labels": ours()["labels"],
            "annotations": {"isthmus.dev/plan": says},
        },
        "spec": {"phase": "AUTHZ", "url": "file:///a.wasm", "pluginConfig": {"digest": says}},
    });
    // Twice the other way round gives it its API as well.
    let mut object = crate::plugin::other(&plugin).unwrap();
    if extension == Extension::WasmPlugin {
        object = crate::plugin::other(&object).unwrap();
    }
    Part { file: file_of(&object, "istio-system").unwrap(), sort: Sort::Plugin, object: Packed::of(&object) }
}

/// Takes the steps, each told in a line: the file, and the plan that stands there then; and all plans that are there.
fn told(dir: &Path, wanted: Vec<Part>) -> Vec<String> {
    let there = directory::there(dir, &wanted).unwrap();
    let (steps, _) = steps(&there, wanted, |there, wanted| there == wanted);
    let told = steps.iter().map(|(phase, step)| {
        assert_eq!(*phase, Phase::Filters);
        directory::take(dir, step).unwrap();
        let says = match step {
            Step::Write(_, object) => {
                let object = object.open();
                crate::plugin::configured(&object).unwrap()["digest"].as_str().unwrap().to_owned()
            }
            Step::Remove(_) => "goes".to_owned(),
        };
        format!("{} {says}", step.file().trim_start_matches("isthmus-inbound").trim_end_matches(".yaml"))
    });
    told.collect()
}

#[test]
fn another_kind_of_plugin_comes_with_the_plan_that_is_there_and_changes_it_when_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let whole = |kind, says| vec![plugin(kind, "istio-system", says)];
    let cut = |kind, says| [vec![plugin(kind, "payments", says)], whole(kind, says)].concat();
    let [plugins, extensions] = Extension::ALL;
    assert_eq!(told(dir, cut(plugins, "one")), ["@payments one", " one"]);
    assert_eq!(
        told(dir, cut(extensions, "one")),
        ["@payments.trafficextension one", ".trafficextension one", " goes", "@payments goes"],
        "nothing but the kind is another"
    );
    assert_eq!(told(dir, cut(extensions, "one")), [""; 0], "nothing to do");
    assert_eq!(
        told(dir, whole(plugins, "two")),
        [
            "@payments one",
            " one",
            ".trafficextension goes",
            "@payments.trafficextension goes",
            " two",
            "@payments goes",
        ],
        "a plan that is whole again, and the kind of before"
    );
}

#[test]
fn an_exchange_that_was_cut_anywhere_goes_on_where_it_was() {
    let [plugins, extensions] = Extension::ALL;
    let before = [plugin(plugins, "payments", "one"), plugin(plugins, "istio-system", "one")];
    let wanted = vec![plugin(extensions, "istio-system", "two")];
    let begin = |dir: &Path| {
        for part in &before {
            directory::take(dir, &Step::Write(part.file.clone(), part.object.clone())).unwrap();
        }
    };
    let count = {
        let dir = tempfile::tempdir().unwrap();
        begin(dir.path());
        told(dir.path(), wanted.clone()).len()
    };
    for cut in 0..=count {
        let dir = tempfile::tempdir().unwrap();
        begin(dir.path());
        let there = directory::there(dir.path(), &wanted).unwrap();
        let (steps, _) = steps(&there, wanted.clone(), |there, wanted| there == wanted);
        for (_, step) in &steps[..cut] {
            directory::take(dir.path(), step).unwrap();
        }
        let mut last = told(dir.path(), wanted.clone());
        let files: Vec<String> = directory::there(dir.path(), &wanted).unwrap().into_keys().collect();
        assert_eq!(files, ["isthmus-inbound.trafficextension.yaml"], "cut after {cut}: {last:?}");
        // Whatever was there, the plan of the new kind changes after the old kind has gone.
        last.retain(|line| line == ".trafficextension two" || line == " goes");
        assert!(last.windows(2).all(|pair| pair[0] == " goes"), "cut after {cut}: {last:?}");
    }
}
