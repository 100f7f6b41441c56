use super::*;

const PLUGIN: &str = r#"
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: isthmus-inbound, namespace: istio-system}
spec:
  url: file:///wasm/isthmus.wasm
  pluginName: isthmus
  failStrategy: FAIL_RELOAD
  phase: AUTHZ
  priority: 10
  match: [{mode: SERVER}]
  pluginConfig: {direction: inbound, plan: {cluster: cluster1}}
"#;

fn target(kind: ProxyKind) -> Target {
    Target {
        name: "cluster1/x.sample".to_owned(),
        kind,
        namespace: "sample".to_owned(),
        labels: BTreeMap::from([("istio", "eastwestgateway".to_owned())]),
        ecds: PathBuf::new(),
    }
}

fn translate(kind: ProxyKind, text: &str) -> Result<Value, PluginError> {
    target(kind).translate(0, &plugin::parse(Path::new("a.yaml"), text)?)
}

#[test]
fn a_plugin_becomes_the_filter_istiod_makes_of_it() {
    let filter = translate(ProxyKind::Server, PLUGIN).expect("filter");
    assert_eq!(
        filter,
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "istio-system.isthmus-inbound",
                "root_id": "isthmus",
                "failure_policy": "FAIL_RELOAD",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": "/wasm/isthmus.wasm"}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": r#"{"direction":"inbound","plan":{"cluster":"cluster1"}}"#,
                },
            },
        })
    );
}

#[test]
fn a_plugin_for_the_other_direction_lets_all_pass() {
    let filter = translate(ProxyKind::Client, PLUGIN).expect("filter");
    assert_eq!(filter, pass_through(ProxyKind::Client));
}

#[test]
fn a_network_plugin_reaches_the_gateway_its_selector_names() {
    let text = PLUGIN.replace(
        "match: [{mode: SERVER}]",
        "type: NETWORK\n  selector: {matchLabels: {istio: eastwestgateway}}",
    );
    let filter = translate(ProxyKind::Gateway, &text).expect("filter");
    assert_eq!(filter["@type"], "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm");
    let elsewhere = translate(ProxyKind::Gateway, &text.replace("eastwestgateway", "ingressgateway"));
    assert_eq!(elsewhere.expect("filter"), pass_through(ProxyKind::Gateway));
}

#[test]
fn a_plugin_of_another_namespace_does_not_reach() {
    let text = PLUGIN.replace("namespace: istio-system", "namespace: payments");
    assert_eq!(translate(ProxyKind::Server, &text).expect("filter"), pass_through(ProxyKind::Server));
}

#[test]
fn two_plugins_for_one_proxy_are_refused_by_name() {
    let two = format!("{PLUGIN}---{}", PLUGIN.replace("isthmus-inbound", "other"));
    let error = translate(ProxyKind::Server, &two).expect_err("refused").to_string();
    assert_eq!(
        error,
        "plugins istio-system.isthmus-inbound and istio-system.other both reach cluster1/x.sample"
    );
}

#[test]
fn a_misspelt_field_is_refused() {
    let error = translate(ProxyKind::Server, &PLUGIN.replace("failStrategy", "failstrategy"));
    assert!(matches!(error, Err(PluginError::Shape { .. })), "{error:?}");
}

#[test]
fn a_module_that_is_not_a_file_is_refused() {
    let error = translate(ProxyKind::Server, &PLUGIN.replace("file:///wasm", "oci://registry"));
    assert!(matches!(error, Err(PluginError::Url { .. })), "{error:?}");
}

#[test]
fn other_kinds_are_passed_over() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n";
    assert_eq!(translate(ProxyKind::Server, text).expect("filter"), pass_through(ProxyKind::Server));
}

#[test]
fn one_clusters_mistake_keeps_what_its_proxies_had() {
    let dir = tempfile::tempdir().expect("dir");
    let plugins = dir.path().join("plugins");
    fs::create_dir_all(&plugins).expect("plugins");
    let ecds = dir.path().join("proxy/ecds/isthmus-inbound.json");
    let server = Target { ecds: dir.path().join("proxy/ecds"), ..target(ProxyKind::Server) };
    let mut istiod = Istiod { dir: plugins.clone(), proxies: vec![server], seen: None };
    fs::write(plugins.join("a.yaml"), PLUGIN).expect("plugin");
    istiod.reconcile().expect("good");
    let good = fs::read_to_string(&ecds).expect("written");
    fs::write(plugins.join("a.yaml"), "a: [").expect("plugin");
    assert!(matches!(istiod.reconcile(), Err(PluginError::Syntax { .. })));
    assert_eq!(fs::read_to_string(&ecds).expect("kept"), good);
    fs::remove_file(plugins.join("a.yaml")).expect("removed");
    istiod.reconcile().expect("empty");
    assert!(fs::read_to_string(&ecds).expect("passes").contains("rbac"));
}
