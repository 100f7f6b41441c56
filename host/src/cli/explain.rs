use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use policy::document::Located;
use policy::finding::Place;
use policy::name::{ClusterName, Namespace, ServiceAccount};
use serde_json::json;

use super::{Common, Exit, Out, Output};
use crate::case::{Call, Level, Origin, Request, Way};
use crate::walk::{self, NoPath};

/// `isthmus explain`
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Who sends it, as CLUSTER/NAMESPACE/SERVICE-ACCOUNT
    #[arg(long, value_name = "SENDER")]
    from: Option<String>,
    /// The cluster that answers; by default every one that could
    #[arg(long, value_name = "CLUSTER")]
    to: Option<ClusterName>,
    /// A header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// How well the destination knows the source
    #[arg(long, default_value = "verified")]
    level: Level,
    /// What is asked for, such as ledger.payments:8080/v1/accounts; or the code of a finding, such as ISM012
    #[arg(value_name = "HOST[:PORT][/PATH]|CODE")]
    request: String,
}

impl Explain {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        if let Some(page) = super::page::about(&self.request) {
            out.print(page.trim_end());
            return Ok(Exit::Yes);
        }
        if is_code(&self.request) {
            out.say(&format!("error: no finding is called {}: docs/findings has them all", self.request));
            return Ok(Exit::Usage);
        }
        let Some(call) = self.call().map_err(|error| out.say(&format!("error: {error:#}"))).ok() else {
            return Ok(Exit::Usage);
        };
        let project = common.project()?;
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else {
            out.say(&crate::render::findings(&project.findings, &project.sources));
            return Ok(Exit::Usage);
        };
        let journeys = match walk::journeys(mesh, plans, &call) {
            Ok(journeys) => journeys,
            Err(none) => {
                out.say(&format!("error: {}", misfit(&none, &call)));
                return Ok(Exit::Usage);
            }
        };
        let mut explanations = Vec::new();
        for journey in &journeys {
            explanations.push(walk::explain::walk(mesh, plans, journey)?);
        }
        match common.output {
            Output::Json => out.json(&json!({
                "apiVersion": policy::API_VERSION, "kind": "Explanation", "items": explanations,
            })),
            Output::Text | Output::Junit | Output::Short => {
                for explanation in &explanations {
                    out.print(&format!("{} {} to {}", self.method, self.request, explanation.destination));
                    out.print(&explanation.to_string());
                }
            }
        }
        let allowed = explanations.iter().all(|explanation| explanation.verdict == "allow");
        Ok(if allowed { Exit::Yes } else { Exit::No })
    }

    fn call(&self) -> anyhow::Result<Call> {
        let from = self.from.as_deref();
        let from = from.context("say who sends it: --from CLUSTER/NAMESPACE/SERVICE-ACCOUNT")?;
        let parts: Vec<&str> = from.split('/').collect();
        let &[cluster, namespace, account] = parts.as_slice() else {
            bail!("--from {from:?} is not CLUSTER/NAMESPACE/SERVICE-ACCOUNT, such as eu-1/checkout/web");
        };
        let (host, path) = match self.request.find('/') {
            Some(slash) => self.request.split_at(slash),
            None => (self.request.as_str(), "/"),
        };
        let mut headers = BTreeMap::new();
        for header in &self.headers {
            let (name, value) =
                header.split_once(':').with_context(|| format!("-H {header:?} is not NAME: VALUE"))?;
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
        Ok(Call {
            from: Origin {
                cluster: said("--from", cluster.parse::<ClusterName>().context("--from")?),
                namespace: namespace.parse::<Namespace>().context("--from")?,
                service_account: account.parse::<ServiceAccount>().context("--from")?,
            },
            way: Way::default(),
            to: self.to.clone().map(|to| said("--to", to)),
            misrouted: false,
            request: Request {
                host: said("HOST", host.to_owned()),
                service: None,
                method: self.method.clone(),
                path: path.to_owned(),
                headers,
            },
            level: self.level,
            level_at: None,
        })
    }
}

fn misfit(none: &NoPath, call: &Call) -> String {
    match none {
        NoPath::Misfit => format!(
            "cluster {} is not in the mesh, or {:?} is not a service of it",
            call.from.cluster.value, call.request.host.value
        ),
        NoPath::OutOfReach { .. } => none.to_string(),
    }
}

/// What was said on the command line, where findings of files have a place.
fn said<T>(flag: &str, value: T) -> Located<T> {
    Located { at: Place { file: Arc::from(flag), line: 1, column: 1, width: 1 }, value }
}

/// Whether what was asked for is meant as the code of a finding, rather than a host.
fn is_code(asked: &str) -> bool {
    let head = asked.get(..3).is_some_and(|head| head.eq_ignore_ascii_case("ism"));
    head && asked.bytes().skip(3).all(|byte| byte.is_ascii_digit())
}
