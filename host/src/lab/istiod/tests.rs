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
        slots: kind.slots(false),
        namespace: "sample".to_owned(),
        root: "istio-system".to_owned(),
        labels: BTreeMap::from([("istio".to_owned(), "eastwestgateway".to_owned())]),
        ecds: PathBuf::new(),
        discovery: PathBuf::new(),
    }
}

fn translate(kind: ProxyKind, text: &str) -> Result<Value, PluginError> {
    let target = target(kind);
    let last = target.slots.last().expect("a slot");
    target.translate(last, &plugin::parse(Path::new("a.yaml"), text)?)
}

#[test]
fn a_plugin_becomes_the_filter_istiod_makes_of_it() {
    let filter = translate(ProxyKind::Server, PLUGIN).expect("filter");
    assert_eq!(
        filter,
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "istio-system.isthmus-inbound~istio-translated-wasmplugin",
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

const EXTENSION: &str = r#"
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: isthmus-inbound, namespace: istio-system}
spec:
  phase: AUTHZ
  priority: 10
  match: [{mode: SERVER}]
  wasm:
    url: file:///wasm/isthmus.wasm
    pluginName: isthmus
    failStrategy: FAIL_RELOAD
    pluginConfig: {direction: inbound, plan: {cluster: cluster1}}
"#;

#[test]
fn a_traffic_extension_becomes_the_filter_of_the_plugin_that_says_the_same() {
    let plugin = translate(ProxyKind::Server, PLUGIN).expect("filter").to_string();
    let extension = translate(ProxyKind::Server, EXTENSION).expect("filter").to_string();
    assert_eq!(plugin.replace("~istio-translated-wasmplugin", ""), extension);
    for misplaced in
        [EXTENSION.replace("  phase:", "  url: x\n  phase:"), EXTENSION.replace("AUTHZ", "UNSPECIFIED_PHASE")]
    {
        let refused = translate(ProxyKind::Server, &misplaced);
        assert!(matches!(refused, Err(PluginError::Shape { .. })), "{refused:?}");
    }
}

#[test]
fn both_kinds_reach_a_proxy_that_has_a_slot_for_each_and_no_other() {
    let both = plugin::parse(Path::new("a.yaml"), &format!("{PLUGIN}---{EXTENSION}")).expect("plugins");
    let mut target = target(ProxyKind::Server);
    assert!(matches!(target.translate(&target.slots[1], &both), Err(PluginError::TwoPlugins { .. })));
    target.slots = ProxyKind::Server.slots(true);
    let names = target.slots.iter().map(|slot| {
        let filter = target.translate(slot, &both).expect("a filter");
        (slot.name.as_str(), filter["config"]["name"].as_str().unwrap_or_default().to_owned())
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            ("isthmus-inbound-own", String::new()),
            ("isthmus-inbound-own-extension", String::new()),
            ("isthmus-inbound", "istio-system.isthmus-inbound~istio-translated-wasmplugin".to_owned()),
            ("isthmus-inbound-extension", "istio-system.isthmus-inbound".to_owned()),
        ]
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
        "plugins istio-system.isthmus-inbound~istio-translated-wasmplugin and istio-system.other~istio-translated-wasmplugin \
         both reach cluster1/x.sample"
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
    let mut istiod = Istiod::new("cluster1", plugins.clone());
    istiod.proxies.push(server);
    let nothing = |_: &str, _: &Config| Discovered::new();
    fs::write(plugins.join("a.yaml"), PLUGIN).expect("plugin");
    istiod.reconcile(&nothing).expect("good");
    let good = fs::read_to_string(&ecds).expect("written");
    fs::write(plugins.join("a.yaml"), "a: [").expect("plugin");
    assert!(matches!(istiod.reconcile(&nothing), Err(PluginError::Syntax { .. })));
    assert_eq!(fs::read_to_string(&ecds).expect("kept"), good);
    fs::remove_file(plugins.join("a.yaml")).expect("removed");
    istiod.reconcile(&nothing).expect("empty");
    assert!(fs::read_to_string(&ecds).expect("passes").contains("rbac"));
}

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web.shop.svc.cluster.local, exportTo: ['*'], subsets: [{name: near, labels: {topology.istio.io/cluster: c1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop.svc.cluster.local]
  http: [{name: last, route: [{destination: {host: web.shop.svc.cluster.local, subset: near}}]}]
";

fn config(text: &str) -> Result<Config, PluginError> {
    let mut objects = Objects::new();
    config::take(Path::new("a.yaml"), text, &mut objects)?;
    Config::read(&objects)
}

#[test]
fn routes_and_subsets_are_read_by_host() {
    let config = config(ROUTES).expect("config");
    let host = "web.shop.svc.cluster.local";
    assert_eq!(config.subsets(host)[0].name, "near");
    assert_eq!(config.routes(host)[0].destination().subset, "near");
    assert!(config.routes("other").is_empty() && config.subsets("other").is_empty());
}

#[test]
fn an_order_without_outlier_detection_does_nothing_as_in_istio() {
    let policy = |more: &str| {
        let order = "loadBalancer: {localityLbSetting: {enabled: true}}";
        ROUTES.replace("exportTo: ['*']", &format!("trafficPolicy: {{{order}{more}}}"))
    };
    let ordered = |text: &str| config(text).expect("config").order("web.shop.svc.cluster.local").is_some();
    let outliers = ", outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 5, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100}";
    assert!(ordered(&policy(outliers)));
    assert!(!ordered(&policy("")));
    assert!(!ordered(&policy(outliers).replace("enabled: true", "enabled: false")));
}

#[test]
fn what_the_lab_does_not_play_is_refused() {
    for (played, other) in [
        ("exportTo: ['*']", "exportTo: ['.']"),
        ("exportTo: ['*']", "trafficPolicy: {tls: {mode: DISABLE}}"),
        ("name: last", "name: last, retries: {attempts: 2}"),
        ("name: last", "name: last, match: [{uri: {exact: /}}]"),
        ("subset: near}}", "subset: near}, weight: 50}"),
        ("hosts: [", "hosts: [other.shop.svc.cluster.local, "),
        ("kind: DestinationRule\nmetadata: {name: web", "kind: VirtualService\nmetadata: {name: again"),
    ] {
        let text = ROUTES.replace(played, other);
        assert_ne!(text, ROUTES);
        let refused = config(&text);
        assert!(refused.is_err(), "{other}: {refused:?}");
    }
    let again =
        ROUTES.replace("name: web, namespace: shop}\nspec: {", "name: again, namespace: shop}\nspec: {");
    let error = config(&format!("{ROUTES}---{again}")).expect_err("refused").to_string();
    assert_eq!(error, "DestinationRule shop/web speaks of web.shop.svc.cluster.local, and another does");
}
