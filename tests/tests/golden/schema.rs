//! What is generated is what Istio takes: every object is held against the CustomResourceDefinition that Istio itself
//! installs. Of a schema everything that is structural is checked; its CEL rules, which need an API server, are not.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use isthmus_tests::repository;
use serde_json::{Value, json};

/// Istio's definitions, by kind and version; `None` where they cannot be had, which is said aloud.
fn definitions() -> Option<Vec<Value>> {
    let fetched = Command::new(repository().join(".ci/istio-crds")).output().expect("bash runs");
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr);
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no definitions: {why}");
        // Past what the test harness captures.
        writeln!(std::io::stderr(), "NOT CHECKED against Istio's definitions: {why}").expect("stderr");
        return None;
    }
    let path = String::from_utf8(fetched.stdout).expect("a path");
    let text = std::fs::read_to_string(path.trim()).expect("definitions");
    let ours = [
        "VirtualService",
        "DestinationRule",
        "WasmPlugin",
        "TrafficExtension",
        "EnvoyFilter",
        "Gateway",
        "ServiceEntry",
    ];
    let wanted =
        |document: &&str| ours.iter().any(|kind| document.contains(&format!("\n    kind: {kind}\n")));
    let read = |document: &str| serde_saphyr::from_str(document).expect("a definition is YAML");
    let found: Vec<Value> = text.split("\n---\n").filter(wanted).map(read).collect();
    assert_eq!(found.len(), ours.len(), "definitions are missing");
    Some(found)
}

/// What is wrong with an object, one line each.
fn mistakes(definitions: &[Value], object: &Value) -> String {
    let (group, version) =
        object["apiVersion"].as_str().and_then(|text| text.split_once('/')).expect("a version");
    let definition = definitions
        .iter()
        .find(|found| found["spec"]["group"] == group && found["spec"]["names"]["kind"] == object["kind"]);
    let Some(definition) = definition else { return format!("no kind {} of {group}\n", object["kind"]) };
    let versions = definition["spec"]["versions"].as_array().expect("versions");
    let Some(schema) = versions.iter().find(|found| found["name"] == version && found["served"] == true)
    else {
        return format!("no version {version}\n");
    };
    let mut found = String::new();
    check(&schema["schema"]["openAPIV3Schema"]["properties"]["spec"], &object["spec"], "spec", &mut found);
    found
}

/// The one pattern, which what is generated meets.
const DIGEST: &str = "(^$|^[a-f0-9]{64}$)";

/// A structural schema, as Kubernetes defines it: what is not described is unknown, unless the schema lets it be.
fn check(schema: &Value, value: &Value, at: &str, found: &mut String) {
    let mut wrong = |what: &str| writeln!(found, "{at}: {what}: {value}").expect("text");
    if value.is_null() {
        if schema["nullable"] != true {
            wrong("null");
        }
        return;
    }
    let is_number = value.is_i64() || value.is_u64();
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => is_number,
        Some("number") => value.is_number(),
        None => schema["x-kubernetes-int-or-string"] != true || is_number || value.is_string(),
        Some(other) => panic!("{at}: type {other}"),
    };
    if !fits {
        wrong("is of another type");
        return;
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        wrong("is none of the values");
    }
    for (bound, size) in [
        ("", value.as_f64()),
        ("Length", value.as_str().map(|text| text.chars().count() as f64)),
        ("Items", value.as_array().map(|items| items.len() as f64)),
        ("Properties", value.as_object().map(|fields| fields.len() as f64)),
    ] {
        let (least, most) = if bound.is_empty() {
            ("minimum".to_owned(), "maximum".to_owned())
        } else {
            (format!("min{bound}"), format!("max{bound}"))
        };
        let over = |limit: &str, beyond: fn(f64, f64) -> bool| {
            size.zip(schema[limit].as_f64()).is_some_and(|(size, limit)| beyond(size, limit))
        };
        if over(&least, |size, limit| size < limit) || over(&most, |size, limit| size > limit) {
            wrong("is too small or too large");
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        assert!(at.ends_with(".sha256") && pattern == DIGEST, "{at}: nobody looks at {pattern}");
    }
    let passes = |schema: &Value| {
        let mut found = String::new();
        check(&merged(schema), value, at, &mut found);
        found.is_empty()
    };
    let all = |key: &str| schema[key].as_array().cloned().unwrap_or_default();
    if !all("allOf").iter().all(passes)
        || !all("anyOf").is_empty() && !all("anyOf").iter().any(passes)
        || !all("oneOf").is_empty() && all("oneOf").iter().filter(|one| passes(one)).count() != 1
        || schema.get("not").is_some_and(passes)
    {
        wrong("has the wrong fields together");
    }
    inside(schema, value, at, found);
}

/// The fields of an object and the items of a list.
fn inside(schema: &Value, value: &Value, at: &str, found: &mut String) {
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{at}[{number}]"), found);
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            writeln!(found, "{at}: has no {name}").expect("text");
        }
    }
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    for (name, field) in fields {
        let described = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        match described {
            Some(schema) => check(schema, field, &format!("{at}.{name}"), found),
            None if free => {}
            None => writeln!(found, "{at}.{name}: is unknown").expect("text"),
        }
    }
}

/// A part of `oneOf` and the like says only what matters to it, and nothing of other fields.
fn merged(part: &Value) -> Value {
    let mut part = part.clone();
    if let Some(fields) = part.as_object_mut() {
        fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
        for field in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
            *field.1 = merged(field.1);
        }
    }
    part
}

/// Whether Istio defines what an object is.
fn is_istios(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.contains("istio.io/"))
}

#[test]
fn everything_that_is_generated_is_of_the_shape_that_istio_takes() {
    let Some(definitions) = definitions() else { return };
    let mut kinds = std::collections::BTreeSet::new();
    let meshes = super::meshes::all().into_iter().map(|path| (super::meshes::objects(&path), path));
    let cases = super::cases().into_iter().map(|case| (super::generated(&case), case));
    for (objects, path) in cases.chain(meshes) {
        for (what, object) in objects.into_iter().filter(|(_, object)| is_istios(object)) {
            kinds.insert(object["kind"].as_str().expect("a kind").to_owned());
            assert_eq!(mistakes(&definitions, &object), "", "{} {what}", path.display());
        }
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            "DestinationRule",
            "EnvoyFilter",
            "Gateway",
            "ServiceEntry",
            "TrafficExtension",
            "VirtualService",
            "WasmPlugin",
        ]
    );
}

#[test]
fn what_istio_would_refuse_is_noticed() {
    let Some(definitions) = definitions() else { return };
    let case = repository().join("tests/golden/routing");
    let objects = super::generated(&case);
    let of =
        |kind: &str| objects.iter().find(|(_, object)| object["kind"] == kind).expect("an object").1.clone();
    let spoiled = |kind: &str, pointer: &str, value: Value| {
        let mut object = of(kind);
        *object.pointer_mut(pointer).expect("a place") = value;
        mistakes(&definitions, &object)
    };
    for (kind, pointer, value, said) in [
        (
            "VirtualService",
            "/spec/http/0/route/0/destination",
            json!({}),
            "spec.http[0].route[0].destination: has no host",
        ),
        (
            "VirtualService",
            "/spec/http/0/match/0/headers/x-isthmus-route",
            json!({"exactly": "x"}),
            "exactly: is unknown",
        ),
        (
            "VirtualService",
            "/spec/http/0/match/0/headers/x-isthmus-route",
            json!({"exact": "x", "prefix": "y"}),
            "together",
        ),
        ("VirtualService", "/spec/hosts", json!("web"), "spec.hosts: is of another type"),
        ("VirtualService", "/apiVersion", json!("networking.istio.io/v2"), "no version v2"),
        (
            "DestinationRule",
            "/spec/trafficPolicy/outlierDetection/maxEjectionPercent",
            json!("100"),
            "of another type",
        ),
        (
            "DestinationRule",
            "/spec/trafficPolicy/outlierDetection/consecutiveGatewayErrors",
            json!(-1),
            "too small",
        ),
        ("DestinationRule", "/spec/subsets/0/labels", json!({"a": 1}), "labels.a: is of another type"),
        ("WasmPlugin", "/spec/failStrategy", json!("FAIL_SAFE"), "none of the values"),
        ("WasmPlugin", "/spec/url", json!(""), "too small"),
        ("TrafficExtension", "/spec/phase", json!("UNSPECIFIED_PHASE"), "none of the values"),
        ("TrafficExtension", "/spec/wasm/url", json!(""), "too small"),
        ("TrafficExtension", "/spec/wasm", json!({"url": "x", "phase": "AUTHZ"}), "phase: is unknown"),
    ] {
        let found = spoiled(kind, pointer, value);
        assert!(found.contains(said), "{kind} {pointer}: {found:?} without {said:?}");
    }
}
