//! What a broken filter does to a stock Envoy, by `failStrategy`: a build of the module that traps on demand.

use std::path::PathBuf;
use std::time::Duration;

use isthmus::lab::{Client, Get, Lab, Site};
use isthmus::plugin::{self, Deployed, ModuleUrl, Reach, Span};
use isthmus::stage;
use isthmus::toolchain::{TARGET, Toolchain};
use isthmus::workspace::Workspace;
use policy::mesh::{Extension, OnFailure};
use policy::plan::Role;
use policy::{Mesh, Policy};
use serde_json::{Value, json};

use super::{eventually, start};

const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters: [{name: cluster1, network: network1}]
  services:
    reload.sample: {port: 5000, clusters: [cluster1]}
    close.sample: {port: 5000, clusters: [cluster1]}
    open.sample: {port: 5000, clusters: [cluster1]}
";

const POLICY: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: p, namespace: sample}
spec:
  services: ['*']
  access: {scope: All, deny: [{name: secret, from: [{clusters: ['*']}], to: [{paths: [/secret]}]}]}
";

/// The filter with its feature `trap-on-demand`, compiled as `isthmus build` does but for its optimisation.
fn trapping_module() -> PathBuf {
    let workspace = Workspace::find(&isthmus_tests::repository()).expect("the checkout");
    let toolchain = Toolchain::find(&workspace).expect("a toolchain");
    let target = workspace.root().join("target/trap");
    let output = toolchain
        .cargo_build(&workspace)
        .args(["--package", "isthmus-filter", "--release", "--locked", "--features", "trap-on-demand"])
        .arg("--target-dir")
        .arg(&target)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join(TARGET).join("release/isthmus_filter.wasm")
}

/// Writes the inbound plugin of each service, each with its own strategy.
fn roll_out(site: &Site, mesh: &Mesh, url: &ModuleUrl, policy: &str) {
    let (policies, findings) = Policy::read("p.yaml", policy, mesh.root_namespace());
    assert_eq!(findings, []);
    let (plans, findings) = policy::compile(mesh, &policies);
    let plans = plans.unwrap_or_else(|| panic!("{findings:?}"));
    let plans = plans.get(&"cluster1".parse().expect("a name")).expect("plans of the cluster");
    let plan = plans.at(Role::Inbound, &"sample".parse().expect("a name"));
    for (app, on_failure) in
        [("reload", OnFailure::Reload), ("close", OnFailure::Close), ("open", OnFailure::Open)]
    {
        let deployed = Deployed { url: url.clone(), on_failure, extension: Extension::default() };
        let mut object =
            plugin::object(Role::Inbound, &plan, Reach { span: Span::One("sample"), of: None }, &deployed)
                .expect("a plugin");
        *object.pointer_mut("/metadata/name").expect("a name") = app.into();
        let spec = object.pointer_mut("/spec").and_then(Value::as_object_mut).expect("a spec");
        spec.insert("selector".to_owned(), json!({"matchLabels": {"app": app}}));
        std::fs::write(site.plugins("cluster1").join(format!("{app}.yaml")), object.to_string())
            .expect("a write");
    }
}

struct Observer {
    lab: Lab,
    client: Client,
}

impl Observer {
    async fn status(&self, service: &str, path: &str) -> u16 {
        self.asked(service, Get::new(&format!("{service}.sample"), path)).await
    }

    async fn trap(&self, service: &str) -> u16 {
        self.asked(service, Get::new(&format!("{service}.sample"), "/").header("x-isthmus-trap", "1")).await
    }

    async fn asked(&self, service: &str, get: Get) -> u16 {
        self.lab.get(&self.client, &get).await.unwrap_or_else(|error| panic!("{service}: {error}")).status
    }

    /// What the service answers to a request that is allowed, and to one that is denied.
    async fn both(&self, service: &str) -> (u16, u16) {
        (self.status(service, "/").await, self.status(service, "/secret").await)
    }
}

impl Observer {
    /// Waits until the service does what its policy says.
    async fn recovers(&self, service: &str) {
        eventually(async || match self.both(service).await {
            (200, 403) => Ok(()),
            other => Err(format!("{service}: {other:?}")),
        })
        .await;
    }
}

#[tokio::test]
async fn what_each_fail_strategy_does_after_a_trap() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let client = Client::new("cluster1", "sample", "sleep");
    let site = Site::claim(stage::blueprint(&mesh, [client.clone()]), dir.path()).expect("a site");
    let url = stage::place_module(&trapping_module(), dir.path()).expect("a module");
    let mesh = mesh.with_own_ca();
    roll_out(&site, &mesh, &url, POLICY);
    let directory = site.plugins("cluster1");
    let observer = Observer { lab: start(site).await, client };

    for service in ["reload", "close", "open"] {
        assert_eq!(observer.both(service).await, (200, 403), "{service}: as the policy says");
        assert_eq!(observer.trap(service).await, 503, "{service}: the request that traps is lost");
    }
    // FAIL_OPEN lets through what the policy denies, and says so nowhere; the others refuse all.
    assert_eq!(observer.both("open").await, (200, 200));
    assert_eq!(observer.both("close").await, (503, 503));
    // FAIL_RELOAD starts the VM anew, by itself and with its plan.
    observer.recovers("reload").await;
    assert_eq!(observer.trap("reload").await, 503);
    observer.recovers("reload").await;
    // The others wait for a plan that differs.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(observer.both("open").await, (200, 200));
    assert_eq!(observer.both("close").await, (503, 503));
    let (site, changed) = (observer.lab.site(), POLICY.replace("name: secret", "name: no-secret"));
    assert_eq!(site.plugins("cluster1"), directory);
    roll_out(site, &mesh, &url, &changed);
    for service in ["reload", "close", "open"] {
        observer.recovers(service).await;
    }
    observer.lab.down().await.expect("all processes ended");
}
