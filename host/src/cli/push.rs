use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::registry::{Registries, keychain};
use super::{Common, Exit, Out, Output};
use crate::plugin::ModuleUrl;
use crate::push::image::Image;
use crate::push::registry::{Access, Registry};
use crate::push::{self, PushError, Pushed, layout};
use crate::reference::Reference;

/// `isthmus push`
#[derive(Debug, Args)]
pub(super) struct Push {
    /// Where to, such as oci://registry.example/isthmus:v1
    #[arg(env = "ISTHMUS_URL", value_name = "URL", required_unless_present = "to_layout")]
    url: Option<ModuleUrl>,
    /// The module; by default wasm/isthmus.wasm
    #[arg(long, env = "ISTHMUS_MODULE", value_name = "FILE")]
    module: Option<PathBuf>,
    /// What the image says of itself, as KEY=VALUE, such as org.opencontainers.image.version=v1; part of its digest
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Let the tag of another image be that of this one
    #[arg(long, env = "ISTHMUS_OVERWRITE")]
    overwrite: bool,
    /// Put the image into a directory instead, an OCI image layout, to be carried to where it is pushed
    #[arg(long, env = "ISTHMUS_TO_LAYOUT", value_name = "DIR", conflicts_with_all = ["from_layout", "overwrite"])]
    to_layout: Option<PathBuf>,
    /// Push the image of such a directory instead of a module
    #[arg(long, env = "ISTHMUS_FROM_LAYOUT", value_name = "DIR", conflicts_with_all = ["module", "annotations"])]
    from_layout: Option<PathBuf>,
    #[command(flatten)]
    registries: Registries,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

impl Push {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let to = match &self.url {
            Some(ModuleUrl::Oci(module)) => Some(module.image()),
            Some(url) => {
                out.say(&format!("error: {url} is no image of a registry: write oci://host/repository:tag"));
                return Ok(Exit::Usage);
            }
            None => None,
        };
        if let Some(Err(error)) = to.filter(|_| self.to_layout.is_none()).map(push::check) {
            out.say(&format!("error: {error}"));
            return Ok(Exit::Usage);
        }
        let image = match self.image(to) {
            Ok(image) => image,
            Err(error) => {
                out.say(&format!("error: {error:#}"));
                return Ok(Exit::Usage);
            }
        };
        if let Some(directory) = &self.to_layout {
            layout::write(&image, directory, to.and_then(Reference::tag))?;
            out.say(&format!("{} bytes are in {}", image.size(), directory.display()));
            tell(common.output, &directory.display().to_string(), &image, None, out);
            return Ok(Exit::Yes);
        }
        let Some(to) = to else { bail!("say where to: oci://host/repository:tag") };
        let pushed = super::runtime()?.block_on(async {
            let found = keychain()?.find(to.host())?;
            let registry = Registry::connect(to, &self.registries.reach(), Access::Push, found).await?;
            if let Some(doubt) = registry.doubt().await {
                out.say(&format!("warning: {doubt}"));
            }
            Ok::<_, anyhow::Error>(push::push(&image, to, &registry, self.overwrite).await)
        })?;
        match pushed {
            Ok(pushed) => {
                let did = if pushed.was_there { "was there" } else { "is pushed" };
                out.say(&format!("{to} {did}, and was read again: {} bytes, all the same", image.size()));
                tell(common.output, &format!("oci://{}", pushed.image), &image, Some(&pushed), out);
                Ok(Exit::Yes)
            }
            Err(taken @ PushError::Taken { .. }) => {
                out.say(&format!("error: {taken}"));
                Ok(Exit::No)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn image(&self, to: Option<&Reference>) -> anyhow::Result<Image> {
        if let Some(directory) = &self.from_layout {
            return Ok(layout::read(directory, to.and_then(Reference::tag))?);
        }
        let path = super::module(self.module.clone())?;
        let module =
            std::fs::read(&path).with_context(|| format!("cannot read the module {}", path.display()))?;
        let annotations: BTreeMap<_, _> = self.annotations.iter().cloned().collect();
        Image::of(&module, &annotations).with_context(|| at(&path))
    }
}

fn at(path: &Path) -> String {
    format!("cannot make an image of {}", path.display())
}

/// What it is called now: as text the one line that `rollout --url` takes.
fn tell(output: Output, url: &str, image: &Image, pushed: Option<&Pushed>, out: &mut Out) {
    if output != Output::Json {
        out.print(url);
        return;
    }
    out.json(&json!({
        "apiVersion": policy::API_VERSION,
        "kind": "Image",
        "url": url,
        "digest": image.digest().to_string(),
        "bytes": image.size(),
        "wasThere": pushed.map(|pushed| pushed.was_there),
    }));
}
