use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::Duration;

use super::certs::{Ca, Key, Place};
use super::{Common, Exit, Out, Output};
use crate::cert::{Ask, Hierarchy, LEAF_LIFETIME, Level, RootFiles, Rotation, Signing, step};

/// `isthmus mesh rotate`
#[derive(Debug, Subcommand)]
pub(super) enum Rotate {
    /// A new intermediate for one cluster, under the same root and of the same name
    Intermediate(Intermediate),
    /// Another root, in steps between which trust never breaks; each run takes the next one
    Root(Root),
}

/// `isthmus mesh rotate intermediate`
#[derive(Debug, Args)]
pub(super) struct Intermediate {
    /// The cluster
    cluster: String,
    #[command(flatten)]
    signer: Signer,
    /// Remove the intermediate before, which a rotation keeps beside the new one
    #[arg(long)]
    drop: bool,
}

/// `isthmus mesh rotate root`
#[derive(Debug, Args)]
pub(super) struct Root {
    #[command(flatten)]
    signer: Signer,
    /// The new root, where it is made elsewhere; by default one is made
    #[arg(long, env = "ISTHMUS_ROOT_CERT", value_name = "FILE")]
    root_cert: Option<PathBuf>,
    /// Take the step for this cluster alone; may be given again
    #[arg(long = "cluster", value_name = "NAME")]
    clusters: Vec<String>,
    /// What the step before wrote is in force in every cluster: in its istiod and in all proxies
    #[arg(long)]
    applied: bool,
    /// For how long a workload's certificate holds: before the old root goes, all under it must have ended
    #[arg(long, env = "ISTHMUS_LEAF_LIFETIME", value_name = "TIME", value_parser = lifetime, default_value = "24h")]
    leaf_lifetime: Duration,
    /// Only say how far it is, and what the next step would do
    #[arg(long)]
    status: bool,
    /// Remove the root before with its key, which a rotation keeps at its end
    #[arg(long)]
    drop: bool,
}

#[derive(Debug, Args)]
struct Signer {
    #[command(flatten)]
    place: Place,
    /// The key of the root that signs, where it does not lie with the CA
    #[arg(long, env = "ISTHMUS_ROOT_KEY", value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// The kind of new keys
    #[arg(long, env = "ISTHMUS_KEY", default_value = "rsa4096")]
    key: Key,
}

impl Rotate {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        match self {
            Self::Intermediate(verb) => {
                let ca = verb.signer.place.of(&project, mesh)?;
                verb.run(&ca, out)
            }
            Self::Root(verb) => {
                let ca = verb.signer.place.of(&project, mesh)?;
                verb.run(&ca, (common.output, out))
            }
        }
    }
}

impl Intermediate {
    fn run(self, ca: &Ca<'_>, out: &mut Out) -> anyhow::Result<Exit> {
        let (cluster, hierarchy, names) = (&self.cluster, &ca.hierarchy, ca.names());
        ensure!(
            names.contains(&cluster.as_str()),
            "cluster {cluster} is not below this root: it has {}",
            names.join(", ")
        );
        if self.drop {
            let gone = hierarchy.drop_intermediate(cluster)?;
            out.print(&if gone {
                format!("removed the intermediate of {cluster} before this one")
            } else {
                format!("nothing is kept of {cluster}")
            });
            return Ok(Exit::Yes);
        }
        let (root_key, options) = (self.signer.root_key.as_deref(), self.signer.key.options());
        hierarchy.rotate_intermediate(cluster, root_key, options, super::now())?;
        out.print(&format!(
            "made a new intermediate of {cluster} in {}",
            hierarchy.cluster(cluster).display()
        ));
        out.say(&format!(
            "the one before is kept in {cluster}.old; now bring the new one to {cluster}: isthmus mesh certs --secrets, \
             then kubectl apply; istiod takes it without a restart. When all is well: isthmus mesh rotate intermediate \
             {cluster} --drop"
        ));
        Ok(Exit::Yes)
    }
}

impl Root {
    fn run(self, ca: &Ca<'_>, (output, out): (Output, &mut Out)) -> anyhow::Result<Exit> {
        let (hierarchy, names) = (&ca.hierarchy, ca.names());
        if let Some(other) = self.clusters.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("cluster {other} is not below this root: it has {}", names.join(", "));
        }
        if self.drop {
            let gone = hierarchy.drop_root(&names)?;
            out.print(if gone {
                "removed the root before this one"
            } else {
                "no root is kept that could go"
            });
            return Ok(if gone { Exit::Yes } else { Exit::No });
        }
        let under_way = hierarchy.rotation(&names)?;
        if self.status {
            match output {
                Output::Json => out.json(&as_json(under_way.as_ref())),
                Output::Text | Output::Junit | Output::Short => self.tell(under_way.as_ref(), out),
            }
            return Ok(Exit::Yes);
        }
        let mut rotation = match under_way {
            Some(rotation) => {
                ensure!(
                    self.root_cert.is_none(),
                    "a rotation is under way, to {:?}: end it first",
                    rotation.new_root().name()
                );
                rotation
            }
            None => self.begin(&names, hierarchy, out)?,
        };
        self.go_on(hierarchy, &mut rotation, out)
    }

    /// How far it is, and what the next step would do.
    fn tell(&self, rotation: Option<&Rotation>, out: &mut Out) {
        let Some(rotation) = rotation else {
            out.print("no rotation of the root is under way");
            return;
        };
        for (what, root) in [("old", rotation.old()), ("new", rotation.new_root())] {
            out.print(&format!("{what} root: {}, until {}", root.name(), root.not_after().date()));
        }
        for (cluster, level) in &rotation.standing().clusters {
            out.print(&format!("{cluster} {}", level.says()));
        }
        match step(rotation.standing(), self.ask()) {
            Ok(moves) => moves.iter().for_each(|(cluster, to)| {
                out.print(&format!("next: {cluster} {}", to.says()));
            }),
            Err(refusal) => out.print(&format!("next: not now: {refusal}")),
        }
    }

    fn ask(&self) -> Ask<'_> {
        let (clusters, applied, leaf_lifetime) = (&self.clusters, self.applied, self.leaf_lifetime);
        Ask { clusters, applied, leaf_lifetime, now: super::now() }
    }

    fn begin(&self, names: &[&str], hierarchy: &Hierarchy, out: &mut Out) -> anyhow::Result<Rotation> {
        let given =
            RootFiles { certificate: self.root_cert.as_deref(), key: self.signer.root_key.as_deref() };
        hierarchy.begin_rotation(names, given, self.signer.key.options(), super::now())?;
        let rotation = hierarchy.rotation(names)?;
        let rotation = rotation.ok_or_else(|| anyhow::anyhow!("the new root is not where it was put"))?;
        out.print(&format!("new root: {}", rotation.new_root().name()));
        Ok(rotation)
    }

    fn go_on(self, hierarchy: &Hierarchy, rotation: &mut Rotation, out: &mut Out) -> anyhow::Result<Exit> {
        let through =
            |rotation: &Rotation| rotation.standing().clusters.values().all(|at| *at == Level::After);
        let ask = self.ask();
        if !through(rotation) {
            let moves = match step(rotation.standing(), ask) {
                Ok(moves) => moves,
                Err(refusal) => {
                    out.say(&format!("not now: {refusal}"));
                    return Ok(Exit::No);
                }
            };
            let options = self.signer.key.options();
            let signing = Signing { root_key: self.signer.root_key.as_deref(), options, now: ask.now };
            for (cluster, to) in moves {
                hierarchy.advance(rotation, (&cluster, to), signing)?;
                out.print(&format!("{cluster} {}", to.says()));
            }
        }
        if through(rotation) {
            hierarchy.finish_rotation()?;
            out.print(&format!("{} is the root", rotation.new_root().name()));
        }
        out.say(next(rotation));
        Ok(Exit::Yes)
    }
}

/// What is to be done before the next run.
fn next(rotation: &Rotation) -> &'static str {
    match rotation.standing().clusters.values().min() {
        Some(Level::Before) => "next: isthmus mesh rotate root, until every cluster trusts both roots",
        Some(Level::Both) => {
            "next: apply every cluster's Secret (isthmus mesh certs --secrets); istiod takes another root only with \
             ISTIO_MULTIROOT_MESH=true in its environment, else when it is restarted; see that every proxy has both \
             roots; then: isthmus mesh rotate root --applied"
        }
        Some(Level::Signed) => {
            "next: apply every cluster's Secret; wait until every workload has a new certificate; then: isthmus mesh \
             rotate root --applied"
        }
        Some(Level::After) | None => {
            "next: apply every cluster's Secret; the old root and the intermediates under it are kept until: isthmus \
             mesh rotate root --drop"
        }
    }
}

fn as_json(rotation: Option<&Rotation>) -> Value {
    const KIND: &str = "RootRotation";
    let Some(rotation) = rotation else {
        return json!({"apiVersion": policy::API_VERSION, "kind": KIND, "underWay": false});
    };
    let cluster = |(name, level): (&String, &Level)| {
        json!({
            "name": name,
            "trustsOld": *level != Level::After,
            "trustsNew": *level != Level::Before,
            "signsUnder": if *level >= Level::Signed { "new" } else { "old" },
        })
    };
    let clusters: Vec<Value> = rotation.standing().clusters.iter().map(cluster).collect();
    json!({
        "apiVersion": policy::API_VERSION,
        "kind": KIND,
        "underWay": true,
        "oldRoot": rotation.old().name(),
        "newRoot": rotation.new_root().name(),
        "clusters": clusters,
    })
}

/// A time such as `24h`: a whole number and s, m, h or d.
fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is no time: write a whole number and s, m, h or d, such as {}h",
            LEAF_LIFETIME.whole_hours()
        )
    };
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_error| wrong())?;
    Ok(Duration::seconds(i64::from(number) * seconds))
}
