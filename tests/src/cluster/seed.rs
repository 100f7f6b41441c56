//! What every cluster begins with, made once: the data of an etcd whose server has come up for the first time and has
//! taken Istio's definitions. A server that starts on a copy of it has half of the work to do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use isthmus::digest::sha256;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::server::{Programs, Server};
use super::{crds, server};

/// How it is made: whatever changes here makes another.
const MADE_BY: [&str; 3] = [include_str!("seed.rs"), include_str!("server.rs"), include_str!("crds.rs")];

/// The data with the definitions of a version of Istio, which lies beside the program and serves every run of the tests;
/// `None` for programs that are not ours to put anything beside.
pub(super) async fn find(programs: &Programs, version: &str) -> Option<PathBuf> {
    static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::const_new(BTreeMap::new());
    let Programs::Built(program) = programs else { return None };
    let mut found = FOUND.lock().await;
    if let Some(seed) = found.get(version) {
        return Some(seed.clone());
    }
    let directory = program.parent().expect("a directory");
    // The definitions lie in directories that say their versions, and are pinned by hash.
    let definitions = crds::files(version).map(|path| path.display().to_string());
    let digest = sha256([definitions.join("\n"), MADE_BY.join("\n")].join("\n"));
    let seed = directory.join(format!("istio-{version}-{digest:.12}"));
    // Several runs of tests may want it at once.
    let lock = File::create(directory.join("seed.lock")).expect("a file");
    lock.lock().expect("a lock");
    if !seed.is_dir() {
        make(programs, version, &seed, directory).await;
    }
    found.insert(version.to_owned(), seed.clone());
    Some(seed)
}

async fn make(programs: &Programs, version: &str, seed: &Path, beside: &Path) {
    let half = TempDir::new_in(beside).expect("a directory");
    let mut server = Server::start(programs, "seed", half.path(), None).await;
    let kubeconfig = half.path().join("kubeconfig");
    crds::install(&super::client(&kubeconfig, "seed").await, version).await;
    server.stop();
    std::fs::rename(half.path().join(server::DATA), seed).expect("the data");
}

/// Copies the data to where a server will look for it.
pub(super) fn sow(seed: &Path, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for entry in std::fs::read_dir(seed)? {
        let entry = entry?;
        let to = directory.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            sow(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
