use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use policy::name::{ClusterName, KeyId};

use super::{Common, Exit, Out};
use crate::cert::TokenKey;

/// `isthmus mesh token-key`
#[derive(Debug, Args)]
pub(super) struct MakeTokenKey {
    /// The cluster whose sidecars sign with it
    #[arg(long, env = "ISTHMUS_CLUSTER", value_name = "NAME")]
    cluster: ClusterName,
    /// The name of the key; by default the cluster's, with year and month
    #[arg(long, env = "ISTHMUS_KID", value_name = "KID")]
    kid: Option<KeyId>,
    /// Where the key lies, as KID.pem; by default certs/tokens/ beside mesh.yaml
    #[arg(long, env = "ISTHMUS_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl MakeTokenKey {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        if mesh.cluster(&self.cluster).is_none() {
            let names: Vec<&str> = mesh.clusters().map(|cluster| cluster.name.as_str()).collect();
            bail!("cluster {} is not in mesh.yaml: it has {}", self.cluster, names.join(", "));
        }
        let id = match self.kid {
            Some(id) => id,
            None => named_today(&self.cluster)?,
        };
        let beside = project.file.parent().unwrap_or(Path::new(".")).join("certs/tokens");
        let dir = self.dir.unwrap_or(beside);
        let (key, made) = TokenKey::ensure(&dir, id)?;
        let path = TokenKey::path(&dir, key.id());
        out.say(&format!("{} {}", if made { "made" } else { "kept" }, path.display()));
        out.print(&said(&self.cluster, &key));
        out.say(
            "first list the key in mesh.yaml and roll that out; then apply the Secret to each namespace with sidecars, \
             and have istio-proxy take ISTIO_META_ISTHMUS_TOKEN_KEY from it",
        );
        Ok(Exit::Yes)
    }
}

fn named_today(cluster: &ClusterName) -> anyhow::Result<KeyId> {
    let today = super::now().date();
    let name = format!("{cluster}-{}-{:02}", today.year(), u8::from(today.month()));
    name.parse().context("the cluster's name leaves no room for a date: name the key with --kid")
}

/// The Secret, with what belongs into `mesh.yaml` as a comment: all of it is for `kubectl apply`.
fn said(cluster: &ClusterName, key: &TokenKey) -> String {
    let (id, public, secret) = (key.id(), key.public(), key.secret());
    format!(
        "# In mesh.yaml, at cluster {cluster}:\n\
         #   tokenKeys:\n\
         #   - {{kid: \"{id}\", publicKey: {public}}}\n\
         apiVersion: v1\n\
         kind: Secret\n\
         metadata: {{name: isthmus-token-key}}\n\
         stringData:\n  \
           key: \"{secret}\""
    )
}
