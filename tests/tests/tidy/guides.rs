//! What guides do by hand is done by something that a test holds: each row of the tables in docs/mesh.md.

use std::collections::BTreeSet;

use super::{none, text, tracked};

const RENDERERS: &str = "istios_own_renderers_make_of_what_is_rendered_what_is_meant";
const FOLDERS: &str = "every_example_and_many_a_case_gives_the_folder_that_was_blessed";
const PAGES: &str = "what_a_page_shows_as_wrong_gives_its_finding_as_it_is_printed";
const FAULTS: &str = "each_fault_is_found_and_nothing_else_is";
const PROOF: &str = "who_answers_whom_is_told_and_nothing_is_left";
const PODS: &str = "pods_of_one_network_that_do_not_reach_each_other_are_told_by_pair";
const REPLICATED: &str = "replicated_control_planes_come_and_go";
const TWO: &str = "two_primaries_on_two_networks_come_and_go";
const DIRECTIONS: &str = "secrets_lead_from_each_control_plane_to_what_it_knows_and_nowhere_else";

/// How each row begins, and the tests that hold what it says.
const ROWS: &[(&str, &[&str])] = &[
    ("the same control plane in each cluster, one root CA", &[REPLICATED]),
    (
        "namespace and `cacerts` in each",
        &[
            REPLICATED,
            "istiod_takes_every_bundle_that_we_write_in_both_forms_and_at_every_step_of_a_rotation",
        ],
    ),
    ("values that once made the multicluster gateways", &[RENDERERS]),
    (
        "gateway addresses that the others reach; node ports",
        &[RENDERERS, "the_doctor_finds_the_gateways_that_are_rendered_open_whatever_port_others_reach"],
    ),
    (
        "`stubDomains` of kube-dns, a zone of CoreDNS",
        &[
            FOLDERS,
            "global_names_that_sidecars_do_not_answer_for_are_found",
            "global_names_that_kube_dns_does_not_ask_for_are_found",
        ],
    ),
    (
        "a ServiceEntry for every remote service",
        &[FOLDERS, "a_server_takes_all_that_a_mesh_needs_and_a_second_time_changes_nothing"],
    ),
    (
        "an address for each that nothing else has",
        &["ten_thousand_services_come_and_go_in_any_order_and_no_address_moves_or_is_shared"],
    ),
    ("through an egress gateway", &[FOLDERS]),
    ("labels on endpoints, and subsets on them", &[FOLDERS]),
    (
        "`bar.ns2.global` and `bar.ns2` resolve",
        &[
            "the_sni_of_a_global_name_is_what_the_gateway_there_and_the_filter_know",
            "what_is_wrong_with_global_names_is_found",
        ],
    ),
    ("a demo: sleep in one cluster calls httpbin", &[PROOF]),
    ("pods of all clusters with addresses of their own", &[PAGES, PODS]),
    ("telling the remote where the control plane is", &[RENDERERS]),
    ("what to do when that pod's address changes", &[PAGES, FAULTS]),
    (
        "a service account in each remote, its kubeconfig as a Secret",
        &["istio_itself_makes_the_same_secret_and_reads_the_cluster_by_ours", DIRECTIONS],
    ),
    ("Services and namespaces copied to every cluster", &[FOLDERS, TWO]),
    ("injection for the remote's configuration", &[RENDERERS]),
    (
        "one root, and a name for istiod that its certificate has",
        &["a_remote_cluster_gets_no_ca_since_its_primary_signs_for_it", RENDERERS],
    ),
    ("which of the eight models it is", &["the_examples_are_of_all_eight_models"]),
    ("server addresses in kubeconfig that are real ones", &[PAGES, FAULTS]),
    (
        "CAs, their files and the Secret `cacerts`",
        &[
            "what_istios_own_tool_made_is_read_as_it_is_and_a_cluster_is_added_to_it",
            "both_forms_hold_what_istiod_demands_and_openssl_finds_key_and_chain_good",
        ],
    ),
    ("the network label of `istio-system`", &[RENDERERS, FAULTS]),
    ("an IstioOperator for each cluster", &[RENDERERS, TWO]),
    ("the east-west gateway by a script", &[RENDERERS]),
    (
        "expose-services in every cluster",
        &["the_doctor_finds_the_gateways_that_are_rendered_open_whatever_port_others_reach"],
    ),
    (
        "`remotePilotAddress`, expose-istiod",
        &[RENDERERS, "a_remote_comes_after_all_that_its_primary_shows_it_and_its_gateway_after_the_secret"],
    ),
    (
        "remote secrets both ways, or to the primary",
        &[DIRECTIONS, "control_planes_read_each_other_and_nothing_is_made_a_second_time"],
    ),
    (
        "a stale secret, a wrong port, an account that may not read",
        &["a_secret_that_does_not_work_is_found_and_made_anew"],
    ),
    ("workloads restarted after installing", &[FOLDERS]),
    (
        "helloworld v1 and v2, called from both clusters",
        &[PROOF, "the_proof_holds_between_real_envoys_and_leaves_none"],
    ),
    (
        "a remote endpoint that nobody reaches",
        &["what_does_not_answer_is_found_by_trying_and_what_does_is_not", PODS],
    ),
    ("what else goes wrong", &["each_failure_that_the_guides_tell_of_is_found_in_some_broken_world"]),
    // Nothing of ours.
    ("pictures of the traffic", &[]),
    (
        "uninstalling, by cluster and by hand",
        &[TWO, "a_mesh_goes_where_it_can_and_from_a_cluster_that_was_down_by_the_next_run"],
    ),
];

/// The rows of the tables under a headline, without their headlines.
fn rows(page: &str, headline: &str) -> Vec<String> {
    let section = page.split(&format!("\n## {headline}\n")).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = Vec::new();
    let lines: Vec<&str> = section.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let is_headline = lines.get(number + 1).is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("| ") && !is_headline {
            rows.push(line.trim_start_matches("| ").to_owned());
        }
    }
    rows
}

#[test]
fn every_row_of_what_guides_do_by_hand_is_held_by_a_test() {
    let rows = rows(&text("docs/mesh.md"), "What the guides do by hand");
    assert_eq!(rows.len(), ROWS.len(), "{rows:#?}");
    let sources: Vec<String> = tracked(&["*.rs"]).iter().map(|path| text(path)).collect();
    let mut mistakes = Vec::new();
    for (row, (start, tests)) in rows.iter().zip(ROWS) {
        if !row.starts_with(start) {
            mistakes.push(format!("{row:?} does not begin with {start:?}"));
        }
        let is_there = |test: &&&str| sources.iter().any(|text| text.contains(&format!("fn {test}(")));
        mistakes.extend(
            tests.iter().filter(|test| !is_there(test)).map(|test| format!("{row:?}: no test {test}")),
        );
    }
    none(&mistakes);
}

/// The files that a text in backticks names, as a rendered folder has them: `40-eastwest.*`.
fn named(row: &str) -> BTreeSet<&str> {
    let is_number = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_numbered = |name: &&str| name.split_once('-').is_some_and(|(number, _)| is_number(number));
    row.split('`').skip(1).step_by(2).filter(is_numbered).collect()
}

#[test]
fn every_file_that_such_a_row_names_is_rendered_for_some_example() {
    let rendered = tracked(&["examples/*/rendered/*", "tests/golden/*/mesh/*"]);
    let mut mistakes = Vec::new();
    let mut seen = 0;
    for row in rows(&text("docs/mesh.md"), "What the guides do by hand") {
        for name in named(&row) {
            let start = name.trim_end_matches('*');
            seen += 1;
            if !rendered
                .iter()
                .any(|path| path.rsplit('/').next().is_some_and(|file| file.starts_with(start)))
            {
                mistakes.push(format!("{row:?}: no {name}"));
            }
        }
    }
    assert!(seen > 8, "only {seen} files are named");
    none(&mistakes);
}
