use serde_json::{Value, json};

use crate::plan::{Configuration, PlanError, Role};

fn good() -> Value {
    let rule = json!({"name": "r", "from": [{"clusters": "0", "namespaces": ["a", "!b"]}], "to": [{"ports": ["80"]}]});
    let section = json!({"policy": "p", "source": "Verified", "scope": "All", "allow": [rule]});
    json!({"role": "inbound", "digest": "00", "plan": {
        "schema": 1,
        "home": {"mesh": "m", "cluster": "c0", "network": "n"},
        "clusters": [{"name": "c0", "network": "n"}, {"name": "c1", "network": "n", "trustDomain": "x.y"}],
        "issuers": {"CN=x": "c0"},
        "sections": [section],
        "enforced": {"*": {"selector": {"app": "a"}, "sections": [0]}},
    }})
}

/// Where and why a configuration is refused in which the value at a place is another; `None`: it is not there.
fn refused(pointer: &str, value: Option<Value>) -> (String, String) {
    let mut json = good();
    let (above, key) = pointer.rsplit_once('/').unwrap();
    let above = json.pointer_mut(above).unwrap();
    match value {
        Some(value) => match above.as_array_mut() {
            Some(list) => list[key.parse::<usize>().unwrap()] = value,
            None => above[key] = value,
        },
        None => drop(above.as_object_mut().unwrap().remove(key)),
    }
    match Configuration::read(json.to_string().as_bytes()) {
        Err(PlanError::Misfit { path, why }) => (path, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_belong_is_told_with_its_place() {
    let from = "/plan/sections/0/allow/0/from/0";
    let path_of_from = "plan.sections[0].allow[0].from[0]";
    for (pointer, value, path, why) in [
        (from, Some(json!([])), path_of_from, "an object belongs here, and this is a list"),
        (&format!("{from}/cluster"), Some(json!("0")), &format!("{path_of_from}.cluster"), "no such key"),
        (&format!("{from}/clusters"), None, &format!("{path_of_from}.clusters"), "missing"),
        (&format!("{from}/clusters"), Some(json!("1,0")), &format!("{path_of_from}.clusters"), "\"1,0\""),
        (&format!("{from}/namespaces/1"), Some(json!(1)), &format!("{path_of_from}.namespaces[1]"), "a text"),
        (
            &format!("{from}/namespaces"),
            Some(json!(["b", "a"])),
            &format!("{path_of_from}.namespaces"),
            "order",
        ),
        ("/plan/sections/0/scope", Some(json!("Most")), "plan.sections[0].scope", "none of Remote, All"),
        ("/plan/enforced/a", Some(json!({})), "plan.enforced.a", "\"a\" is not a service"),
        ("/plan/enforced/*", Some(json!({"sections": [-1]})), "plan.enforced.*.sections[0]", "whole number"),
        ("/plan/enforced/*", Some(json!({"sections": [0.5]})), "plan.enforced.*.sections[0]", "whole number"),
        ("/plan/schema", Some(json!("1")), "plan.schema", "whole number"),
        ("/plan/schema", None, "plan.schema", "missing"),
        ("/plan", Some(json!(true)), "plan", "true or false"),
        ("/plan", None, "plan", "missing"),
        ("/trial", Some(json!([])), "trial", "an object belongs here, and this is a list"),
        ("/trial", Some(json!({"plan": {}})), "trial.digest", "missing"),
        ("/trial", Some(json!({"digest": "00", "plan": {"schema": 1}})), "trial.plan.home", "missing"),
        (
            "/trial",
            Some(json!({"digest": "00", "plan": {}, "enforce": true})),
            "trial.enforce",
            "no such key",
        ),
        ("/role", Some(json!("sideways")), "role", "outbound, inbound, gateway, upstream"),
    ] {
        let (found, said) = refused(pointer, value);
        assert!(found == path && said.contains(why), "{pointer}: {found}: {said}");
    }
}

#[test]
fn a_key_that_stands_twice_is_refused_and_the_order_of_keys_is_not_looked_at() {
    let text = good().to_string();
    assert!(Configuration::read(text.as_bytes()).is_ok_and(|read| read.role == Role::Inbound));
    for (once, twice) in [
        ("\"CN=x\":\"c0\"", "\"CN=x\":\"c0\",\"CN=x\":\"c1\""),
        ("\"schema\":1", "\"schema\":1,\"schema\":1"),
    ] {
        let error = Configuration::read(text.replacen(once, twice, 1).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("stands here twice"), "{error}");
    }
    let unsorted = text.replacen("\"CN=x\":\"c0\"", "\"CN=x\":\"c0\",\"CN=a\":\"c1\"", 1);
    let read = Configuration::read(unsorted.as_bytes()).unwrap();
    assert!(read.plan.to_json().unwrap().contains(r#"{"CN=a":"c1","CN=x":"c0"}"#));
}
