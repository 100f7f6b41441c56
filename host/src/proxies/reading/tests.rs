use super::*;

/// What a stock Envoy answers, its tags in the names.
const BARE: &str = r#"
# TYPE direction___inbound___source_cluster___cluster1___destination_cluster___cluster1___verdict___allow___reason___same_cluster___isthmus_requests_total counter
direction___inbound___source_cluster___cluster1___destination_cluster___cluster1___verdict___allow___reason___same_cluster___isthmus_requests_total{} 7
direction___inbound___source_cluster___cluster2___destination_cluster___cluster1___verdict___deny___reason___ledger_no_rule_matched___isthmus_requests_total{} 3
envoy_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="admin"} 100
envoy_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="admin"} 100
envoy_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="inbound"} 8
envoy_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="inbound"} 2
envoy_wasm_envoy_wasm_runtime_v8_active{} 3
envoy_server_uptime{} 90
envoy_wasm_istio_system_isthmus_inbound_vm_reload{} 1
envoy_wasm_istio_system_isthmus_inbound_vm_reload_backoff{} 4
envoy_wasm_istio_system_isthmus_inbound_vm_reload_success{} 1
envoy_wasm_istio_system_other_vm_reload_success{} 50
direction___inbound___isthmus_plan_info{} 157410554525162
direction___inbound___isthmus_trial_info{} 157410554525163
direction___outbound___isthmus_trial_info{} 0
direction___inbound___source_cluster___cluster2___destination_cluster___cluster1___verdict___allow___reason___not_denied___isthmus_trial_requests_total{} 6
direction___inbound___source_cluster___cluster2___destination_cluster___cluster1___verdict___deny___reason___p_d___isthmus_trial_requests_total{} 4
direction___inbound___source_cluster___cluster2___destination_cluster___cluster1___verdict___deny___reason___p_d___isthmus_trial_denied_total{} 1
"#;

/// The same of a proxy of Istio's that was told to split the tags.
const SPLIT: &str = r#"
isthmus_requests_total{direction="inbound",source_cluster="cluster1",destination_cluster="cluster1",verdict="allow",reason="same-cluster"} 7
isthmus_requests_total{direction="inbound",source_cluster="cluster2",destination_cluster="cluster1",verdict="deny",reason="ledger/no-rule-matched"} 3
istio_requests_total{reporter="destination",response_code="200"} 8
istio_requests_total{reporter="destination",response_code="503"} 2
envoy_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="inbound_0.0.0.0_8080"} 9
envoy_wasm_envoy_wasm_runtime_v8_active{} 3
envoy_server_uptime{} 90
envoy_wasm_istio_system_isthmus_inbound_vm_reload_backoff{} 4
envoy_wasm_istio_system_isthmus_inbound_vm_reload_success{} 1
isthmus_plan_info{direction="inbound"} 157410554525162
isthmus_trial_info{direction="inbound"} 157410554525163
isthmus_trial_info{direction="outbound"} 0
isthmus_trial_requests_total{direction="inbound",source_cluster="cluster2",destination_cluster="cluster1",verdict="allow",reason="not-denied"} 6
isthmus_trial_requests_total{direction="inbound",source_cluster="cluster2",destination_cluster="cluster1",verdict="deny",reason="p/d"} 4
isthmus_trial_denied_total{direction="inbound",source_cluster="cluster2",destination_cluster="cluster1",verdict="deny",reason="p/d"} 1
"#;

#[test]
fn tags_are_found_as_labels_and_in_names() {
    let judged = Counts { allowed: 7, denied: 3, tried: 10, trial_denied: 1, ..Counts::default() };
    let counts = Counts { requests: 10, failed: 2, traps: 5, uptime: 90, ..judged };
    let plans = BTreeMap::from([(Role::Inbound, Stamp(157_410_554_525_162))]);
    let trials = BTreeMap::from([(Role::Inbound, Stamp(157_410_554_525_163))]);
    let wanted = Reading { plans, trials, counts };
    for text in [BARE, SPLIT] {
        assert_eq!(Reading::read(text).expect("metrics"), wanted);
    }
}

#[test]
fn a_stamp_reads_as_the_digest_begins() {
    let digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let stamp = Stamp::of(digest).expect("hex");
    assert_eq!(stamp.to_string(), "0123456789ab");
    assert_eq!(Stamp::read(1_250_999_896_491.0), Some(stamp));
    assert_eq!((Stamp::of("0123"), Stamp::of("no digest at all")), (None, None));
    assert_eq!(
        (Stamp::read(0.5), Stamp::read(-1.0), Stamp::read(f64::NAN), Stamp::read(1e15)),
        (None, None, None, None)
    );
}

#[test]
fn a_plan_that_was_told_of_does_not_run_where_no_vm_does() {
    let gone = BARE.replace("v8_active{} 3", "v8_active{} 0");
    let reading = Reading::read(&gone).expect("metrics");
    assert!(reading.plans.is_empty());
    assert_eq!(reading.counts.denied, 3, "what was counted was");
}

#[test]
fn a_tag_is_not_found_in_the_value_of_another() {
    let name = "direction___inbound___source_cluster___unknown___verdict___allow___reason___x_verdict___deny_y___isthmus_requests_total{} 1";
    assert_eq!(Reading::read(name).expect("metrics").counts.denied, 0);
}

#[test]
fn a_proxy_may_say_any_number_any_number_of_times() {
    let names = SPLIT.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0));
    let most: String =
        names.flat_map(|name| [1e30, f64::INFINITY].map(|count| format!("{name} {count}\n"))).collect();
    let counts = Reading::read(&most).expect("metrics").counts;
    assert_eq!(
        (counts.judged(), counts.requests, counts.failed, counts.traps),
        (u64::MAX, u64::MAX, u64::MAX, u64::MAX)
    );
    let mut twice = counts;
    twice.add(counts);
    assert_eq!(twice.since(counts).judged(), 0);
}
