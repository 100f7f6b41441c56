//! The flags of every verb that talks to a registry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Out;
use crate::plugin::ModuleUrl;
use crate::push::credentials::{CredentialsError, Keychain};
use crate::push::registry::Reach;
use crate::push::resolve::{confirm, resolve};

/// How registries are reached.
#[derive(Debug, Args)]
pub(super) struct Registries {
    /// The registry has no TLS; one on this machine is taken to have none unless --ca-file is said
    #[arg(long, env = "ISTHMUS_PLAIN_HTTP")]
    plain_http: bool,
    /// Certificates of CAs, in PEM, to trust for registries beside those of this machine
    #[arg(long, env = "ISTHMUS_CA_FILE", value_name = "FILE", conflicts_with = "plain_http")]
    ca_file: Option<PathBuf>,
    /// How many seconds each call to a registry may take, with all its tries
    #[arg(long, env = "ISTHMUS_REGISTRY_TIMEOUT", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    registry_timeout: u64,
}

/// What is made of a --url before it is written.
#[derive(Debug, Args)]
pub(super) struct Resolving {
    /// Write the --url as it is: otherwise its registry or web server is asked for the digest of what is there now, so
    /// that every proxy gets the same, or whether it has what the --url says
    #[arg(long, env = "ISTHMUS_NO_RESOLVE")]
    no_resolve: bool,
    /// The Secret, in the namespace of each plugin, with which proxies fetch the image
    #[arg(long, env = "ISTHMUS_PULL_SECRET", value_name = "NAME")]
    pull_secret: Option<String>,
    #[command(flatten)]
    registries: Registries,
}

impl Registries {
    pub(super) fn reach(&self) -> Reach {
        Reach {
            plain_http: self.plain_http,
            ca_file: self.ca_file.clone(),
            timeout: Duration::from_secs(self.registry_timeout),
        }
    }
}

/// The credentials of whoever runs this.
pub(super) fn keychain() -> Result<Keychain, CredentialsError> {
    let home = std::env::var_os("HOME");
    Keychain::read(std::env::var_os("DOCKER_CONFIG").as_deref(), home.as_deref().map(Path::new))
}

impl Resolving {
    /// The URL as plugins have it; a digest that had to be asked for is told.
    pub(super) fn resolve(&self, url: &ModuleUrl, out: &mut Out) -> anyhow::Result<ModuleUrl> {
        let named = match &self.pull_secret {
            Some(name) => url.clone().with_pull_secret(name)?,
            None => url.clone(),
        };
        if self.no_resolve {
            return Ok(named);
        }
        let known = named.clone();
        let reach = self.registries.reach();
        let asked = async {
            let keychain = keychain()?;
            let resolved = resolve(named, &reach, &keychain).await?;
            // What had a digest was not asked for, and may be gone, or another thing.
            let doubt = if resolved == known { confirm(&resolved, &reach, &keychain).await? } else { None };
            Ok::<_, anyhow::Error>((resolved, doubt))
        };
        let (resolved, doubt) = super::runtime()?.block_on(asked).map_err(|error| {
            error.context(format!("cannot tell which module {url} is; --no-resolve writes it as it is"))
        })?;
        match doubt {
            Some(why) => out.say(&format!("{url} is written unseen: {why}")),
            None if resolved != known => out.say(&format!("{url} is {resolved}")),
            None => {}
        }
        Ok(resolved)
    }
}
