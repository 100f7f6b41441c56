//! Every way in which a server does not do as it is asked, provoked on a real one.

use std::time::Duration;

use hyper::StatusCode;
use isthmus::kube::{Apply, Cluster, Held, Id, Kind, Problem, Wrong};
use isthmus_tests::cluster::{Clusters, Fault, Faulty};
use serde_json::{Value, json};

use super::{PATIENCE, account, ask, cluster, namespace, plugin, post};

const PLAIN: Apply = Apply { dry_run: false, force: false };

/// Why an object is not applied, and what is told of it.
async fn refused(cluster: &Cluster, object: &Value) -> (Problem, String) {
    let error = cluster.apply(object, PLAIN).await.expect_err("it is not applied");
    let text = error.to_string();
    (*error.problem, text)
}

#[tokio::test]
async fn a_verb_that_is_missing_is_named_with_its_resource() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let token = account(&client, "small").await;
    let url = clusters.server("cluster1").url();
    let cluster = cluster(&clusters.kubeconfig_of("cluster1", &url, &token), "cluster1", PATIENCE).await;
    let forbidden = |verb: &str, namespace: Option<&str>, problem: Problem| {
        let Problem::Forbidden { user, verb: missing, resource, namespace: place, .. } = problem else {
            panic!("{problem:?}")
        };
        assert_eq!(user.as_deref(), Some("system:serviceaccount:small:small"));
        assert_eq!((missing.as_str(), place.as_deref()), (verb, namespace));
        assert_eq!(resource, "wasmplugins.extensions.istio.io");
    };
    let object = plugin("small", "one");
    let (problem, text) = refused(&cluster, &object).await;
    forbidden("patch", Some("small"), problem);
    let told = "cluster1: cannot apply WasmPlugin small/one: system:serviceaccount:small:small may not patch \
                wasmplugins.extensions.istio.io in namespace small: grant the verb with RBAC";
    assert_eq!(text, told);
    let kind = Kind::new("extensions.istio.io/v1alpha1", "WasmPlugin");
    forbidden("list", None, *cluster.list(&kind).await.expect_err("it may not").problem);

    // One who may change objects may not yet make them.
    let rules =
        json!([{"apiGroups": ["extensions.istio.io"], "resources": ["wasmplugins"], "verbs": ["patch"]}]);
    let role = json!({"metadata": {"name": "patches"}, "rules": rules});
    let base = "/apis/rbac.authorization.k8s.io/v1/namespaces/small";
    post(&client, &format!("{base}/roles"), &role).await;
    let binding = json!({
        "metadata": {"name": "patches"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patches"},
        "subjects": [{"kind": "ServiceAccount", "name": "small", "namespace": "small"}],
    });
    post(&client, &format!("{base}/rolebindings"), &binding).await;
    // The server hears of it by a watch of its own.
    let deadline = std::time::Instant::now() + PATIENCE;
    let problem = loop {
        let problem = refused(&cluster, &object).await.0;
        let Problem::Forbidden { verb, .. } = &problem else { panic!("{problem:?}") };
        if verb == "create" {
            break problem;
        }
        assert!(std::time::Instant::now() < deadline, "{problem}");
    };
    forbidden("create", Some("small"), problem);
}

#[tokio::test]
async fn a_token_that_holds_no_more_is_told_as_such() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let token = account(&client, "gone").await;
    let path = "/api/v1/namespaces/gone/serviceaccounts/gone";
    ask(&client, hyper::Request::delete(path), &Value::Null).await;
    let url = clusters.server("cluster1").url();
    for token in [token.as_str(), "no-token-at-all"] {
        let cluster = cluster(&clusters.kubeconfig_of("cluster1", &url, token), "cluster1", PATIENCE).await;
        let (problem, text) = refused(&cluster, &plugin("gone", "one")).await;
        assert!(matches!(problem, Problem::Unauthorized { .. }), "{problem:?}");
        assert!(text.contains("log in again"), "{text}");
    }
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_told_with_what_to_install() {
    let Some(clusters) = Clusters::shared().await else { return };
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    let mut object = plugin("default", "one");
    let of = |api_version: &str, kind: &str| {
        let problem = Problem::NoSuchKind { kind: Kind::new(api_version, kind) };
        (problem, format!("{kind} of {api_version}"))
    };
    for (api_version, kind, advice) in [
        ("gateway.networking.k8s.io/v1", "TCPRoute", "the Gateway API"),
        ("extensions.istio.io/v1alpha1", "WasmPlugout", "Istio's definitions"),
        ("extensions.istio.io/v7", "WasmPlugin", "Istio's definitions"),
    ] {
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        let (problem, text) = refused(&cluster, &object).await;
        let (wanted, name) = of(api_version, kind);
        assert_eq!(problem, wanted);
        assert!(text.contains(&name) && text.contains(advice), "{text}");
    }
}

#[tokio::test]
async fn a_kind_that_goes_after_it_was_seen_is_told_as_one_that_is_not_installed() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&client, "fleeting").await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let names = json!({"plural": "mayflies", "singular": "mayfly", "kind": "Mayfly"});
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "mayflies.fleeting.example"},
        "spec": {
            "group": "fleeting.example",
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    post(&client, definitions, &definition).await;
    let metadata = json!({"name": "one", "namespace": "fleeting"});
    let object = json!({"apiVersion": "fleeting.example/v1", "kind": "Mayfly", "metadata": metadata});
    // The server serves it, and serves it no more, some time after it was told to.
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Err(error) = cluster.apply(&object, PLAIN).await {
        assert!(std::time::Instant::now() < deadline, "{error}");
    }
    let path = format!("{definitions}/mayflies.fleeting.example");
    ask(&client, hyper::Request::delete(path), &Value::Null).await;
    let kind = Kind::new("fleeting.example/v1", "Mayfly");
    let wanted = Problem::NoSuchKind { kind: kind.clone() };
    loop {
        let (problem, text) = match cluster.apply(&object, PLAIN).await {
            Ok(_) => continue,
            Err(error) => (*error.problem, error.context),
        };
        if problem == wanted {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{text}: {problem}");
    }
    assert_eq!(*cluster.list(&kind).await.expect_err("it is not there").problem, wanted);
}

#[tokio::test]
async fn a_field_of_another_manager_is_left_to_it_unless_it_is_to_be_taken() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&client, "held").await;
    let mut theirs = plugin("held", "one");
    theirs["spec"]["url"] = "oci://registry.example/other:v9".into();
    post(
        &client,
        "/apis/extensions.istio.io/v1alpha1/namespaces/held/wasmplugins?fieldManager=helm",
        &theirs,
    )
    .await;
    let ours = plugin("held", "one");
    let (problem, text) = refused(&cluster, &ours).await;
    let held = Held { field: ".spec.url".to_owned(), manager: "helm".to_owned() };
    assert_eq!(problem, Problem::Conflict { held: vec![held] });
    assert!(text.ends_with(".spec.url belongs to \"helm\": --force-conflicts takes it from them"), "{text}");
    let id = Id::of(&ours).expect("a name");
    let kept = cluster.get(&id).await.expect("an answer").expect("it is there");
    assert_eq!(kept["spec"]["url"], theirs["spec"]["url"]);
    let taken = cluster.apply(&ours, Apply { force: true, ..PLAIN }).await.expect("it is taken");
    assert_eq!(taken["spec"], ours["spec"]);
}

#[tokio::test]
async fn what_is_wrong_with_an_object_is_told_by_field() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&client, "wrong").await;
    let wrong = |problem: Problem| {
        let Problem::Invalid { wrong } = problem else { panic!("{problem:?}") };
        wrong
    };
    let mut object = plugin("wrong", "one");
    object["spec"]["phase"] = "LATE".into();
    object["spec"]["sha256"] = "short".into();
    let found = wrong(refused(&cluster, &object).await.0);
    let fields: Vec<&str> = found.iter().map(|wrong| wrong.field.as_str()).collect();
    assert_eq!(fields, ["spec.phase", "spec.sha256"], "{found:?}");

    let mut object = plugin("wrong", "one");
    object["spec"]["urll"] = "oci://registry.example/isthmus".into();
    let found = wrong(refused(&cluster, &object).await.0);
    let (field, message) = ("spec.urll".to_owned(), "field not declared in schema".to_owned());
    assert_eq!(found, [Wrong { field, message }]);

    // What would lead elsewhere as a URL never leaves.
    let object = plugin("wrong", "one?force=true");
    let found = wrong(refused(&cluster, &object).await.0);
    assert_eq!(found[0].field, "metadata.name");
}

#[tokio::test]
async fn an_object_of_a_namespace_that_is_not_there_is_not_found() {
    let Some(clusters) = Clusters::shared().await else { return };
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    let (problem, text) = refused(&cluster, &plugin("nowhere", "one")).await;
    assert!(matches!(problem, Problem::NotFound { .. }), "{problem:?}");
    assert!(text.contains("namespaces \"nowhere\" not found"), "{text}");
}

#[tokio::test]
async fn an_object_can_be_too_large_for_the_store_and_for_the_server() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&client, "large").await;
    for megabytes in [2, 4] {
        let mut object = plugin("large", "one");
        object["spec"]["pluginConfig"]["much"] = "x".repeat(megabytes << 20).into();
        let (problem, text) = refused(&cluster, &object).await;
        let Problem::TooLarge { bytes, .. } = problem else { panic!("{text}") };
        assert_eq!(bytes, object.to_string().len());
    }
}

#[tokio::test]
async fn an_object_that_has_changed_since_it_was_seen_is_not_deleted() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let cluster = cluster(&clusters.kubeconfig(), "cluster1", PATIENCE).await;
    namespace(&client, "changed").await;
    let mut object = plugin("changed", "one");
    let seen = cluster.apply(&object, PLAIN).await.expect("taken");
    object["spec"]["priority"] = 7.into();
    cluster.apply(&object, PLAIN).await.expect("taken");
    let error = cluster.delete(&seen, false).await.expect_err("it has changed");
    assert!(matches!(*error.problem, Problem::Changed { .. }), "{error}");
    let id = Id::of(&object).expect("a name");
    assert!(cluster.get(&id).await.expect("an answer").is_some());
}

#[tokio::test]
async fn a_server_that_is_down_cannot_be_reached_and_is_found_again_when_it_is_up() {
    let Some(mut clusters) = Clusters::start(&["falls"]).await else { return };
    namespace(&clusters.client("falls").await, "after").await;
    let cluster = cluster(&clusters.kubeconfig(), "falls", PATIENCE).await;
    cluster.apply(&plugin("after", "one"), PLAIN).await.expect("taken");
    clusters.server_mut("falls").stop();
    let (problem, text) = refused(&cluster, &plugin("after", "two")).await;
    assert!(matches!(problem, Problem::Unreachable { .. }), "{problem:?}");
    assert!(text.contains("Connection refused"), "{text}");
    clusters.server_mut("falls").resume().await;
    cluster.apply(&plugin("after", "two"), PLAIN).await.expect("taken");
    let kind = Kind::new("extensions.istio.io/v1alpha1", "WasmPlugin");
    assert_eq!(cluster.list(&kind).await.expect("a list").len(), 2);
}

/// A proxy before cluster1, and that cluster through it. It is asked once, so that it knows what is served there.
async fn behind(clusters: &Clusters, name: &str, timeout: Duration) -> (Faulty, Cluster) {
    let client = clusters.client("cluster1").await;
    namespace(&client, name).await;
    let proxy = Faulty::before(client).await;
    let kubeconfig = clusters.kubeconfig_of("cluster1", proxy.url(), clusters.server("cluster1").token());
    let cluster = cluster(&kubeconfig, "cluster1", timeout).await;
    cluster.apply(&plugin(name, "first"), PLAIN).await.expect("taken");
    proxy.seen();
    (proxy, cluster)
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let Some(clusters) = Clusters::shared().await else { return };
    let (proxy, cluster) = behind(&clusters, "again", PATIENCE).await;
    let object = plugin("again", "one");
    let later =
        Fault::Answer(StatusCode::TOO_MANY_REQUESTS, Some(0), "Too many requests, please try again later.");
    let down = Fault::Answer(StatusCode::SERVICE_UNAVAILABLE, None, "");
    proxy.next([later.clone(), down.clone(), Fault::Cut]);
    cluster.apply(&object, PLAIN).await.expect("taken at last");
    assert_eq!(proxy.seen().len(), 4);

    // The server has done it, and nobody has heard: the second time it is as it should be.
    proxy.next([Fault::CutAfter]);
    let object = plugin("again", "two");
    let made = cluster.apply(&object, PLAIN).await.expect("taken");
    assert_eq!((proxy.seen().len(), &made["metadata"]["generation"]), (2, &json!(1)));
    proxy.next([Fault::CutAfter]);
    assert!(!cluster.delete(&made, false).await.expect("gone"), "by the time it is told, it is gone already");
    proxy.seen();

    proxy.next([later.clone(), later.clone(), later.clone(), later]);
    let problem = refused(&cluster, &object).await.0;
    assert!(matches!(problem, Problem::Throttled { .. }), "{problem:?}");
    assert_eq!(proxy.seen().len(), 4, "there is an end to it");

    let failed = Fault::Answer(StatusCode::INTERNAL_SERVER_ERROR, None, "etcd has lost its mind");
    proxy.next([failed]);
    let problem = refused(&cluster, &object).await.0;
    let told = Problem::Server { code: 500, message: "etcd has lost its mind".to_owned() };
    assert_eq!((problem, proxy.seen().len()), (told, 1));
}

#[tokio::test]
async fn a_server_that_asks_to_wait_for_longer_than_there_is_time_is_not_waited_for() {
    let Some(clusters) = Clusters::shared().await else { return };
    let (proxy, cluster) = behind(&clusters, "later", PATIENCE).await;
    proxy.next([Fault::Answer(StatusCode::TOO_MANY_REQUESTS, Some(86_400), "tomorrow")]);
    let (problem, text) = refused(&cluster, &plugin("later", "one")).await;
    let wanted = Problem::Throttled { retry_after: Some(Duration::from_secs(86_400)) };
    assert_eq!((problem, proxy.seen().len()), (wanted, 1), "{text}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let Some(clusters) = Clusters::shared().await else { return };
    let (proxy, _) = behind(&clusters, "silent", PATIENCE).await;
    let kubeconfig = clusters.kubeconfig_of("cluster1", proxy.url(), clusters.server("cluster1").token());
    let cluster = cluster(&kubeconfig, "cluster1", Duration::from_millis(300)).await;
    proxy.next([Fault::Hang]);
    let (problem, text) = refused(&cluster, &plugin("silent", "one")).await;
    assert_eq!(problem, Problem::TimedOut { after: Duration::from_millis(300) });
    assert!(text.contains("--timeout"), "{text}");
}

#[tokio::test]
async fn an_answer_from_something_else_is_told_as_such() {
    let Some(clusters) = Clusters::shared().await else { return };
    let (proxy, cluster) = behind(&clusters, "other", PATIENCE).await;
    proxy.next([Fault::Answer(StatusCode::OK, None, "<html>log in to the hotel's network</html>")]);
    let problem = refused(&cluster, &plugin("other", "one")).await.0;
    assert!(matches!(problem, Problem::Unreadable { .. }), "{problem:?}");
}
