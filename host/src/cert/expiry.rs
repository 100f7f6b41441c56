//! What ends when, of a whole hierarchy.

use std::path::PathBuf;

use time::{Duration, OffsetDateTime};

use super::layout::ROOT;
use super::store;
use super::{CertError, Certificate, Hierarchy};

/// How a certificate stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// It holds, and for longer than one is to be warned of.
    Holds,
    /// It ends soon.
    Ends,
    /// It does not hold yet.
    Begins,
    /// It has ended.
    Ended,
}

/// When a certificate of a hierarchy ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// The file that it lies in.
    pub path: PathBuf,
    /// What it is called.
    pub name: String,
    /// From when on it holds.
    pub begins: OffsetDateTime,
    /// Until when.
    pub ends: OffsetDateTime,
    /// How that stands.
    pub life: Life,
    /// What to do when it ends.
    pub remedy: String,
}

impl Expiry {
    fn of(
        path: PathBuf,
        certificate: &Certificate,
        remedy: String,
        when: (OffsetDateTime, Duration),
    ) -> Self {
        let (now, warning) = when;
        let (begins, ends) = (certificate.not_before(), certificate.not_after());
        let life = match () {
            () if now > ends => Life::Ended,
            () if now < begins => Life::Begins,
            () if ends - now <= warning => Life::Ends,
            () => Life::Holds,
        };
        Self { path, name: certificate.name().to_owned(), begins, ends, life, remedy }
    }

    /// It in words, without the file: for who reads what is wrong.
    #[must_use]
    pub fn says(&self, now: OffsetDateTime) -> String {
        let (name, begins, ends) = (&self.name, self.begins.date(), self.ends.date());
        match self.life {
            Life::Holds => format!("{name} holds until {ends}"),
            Life::Ends => format!("{name} ends in {} days, on {ends}", (self.ends - now).whole_days()),
            Life::Begins => format!("{name} does not hold before {begins}"),
            Life::Ended => format!("{name} ended on {ends}"),
        }
    }
}

/// When each certificate of a hierarchy ends: the root, one that comes, and of each cluster its intermediate and the
/// roots that it trusts besides. `warning` is how long before the end one is to be warned.
pub fn expiries(
    hierarchy: &Hierarchy,
    clusters: &[&str],
    now: OffsetDateTime,
    warning: Duration,
) -> Result<Vec<Expiry>, CertError> {
    let when = (now, warning);
    let mut told = Vec::new();
    let mut roots = Vec::new();
    for path in [hierarchy.root_certificate(), hierarchy.new_root()] {
        if store::is_there(&path)? {
            let root = Certificate::read(&store::read(&path)?, &path)?;
            told.push(Expiry::of(path, &root, "isthmus mesh rotate root".to_owned(), when));
            roots.push(root);
        }
    }
    for &cluster in clusters {
        if !hierarchy.has(cluster)? {
            continue; // of a CA that is not ours, or not made yet
        }
        let bundle = hierarchy.bundle(cluster)?;
        let remedy = format!("isthmus mesh rotate intermediate {cluster}");
        told.push(Expiry::of(hierarchy.certificate(cluster), &bundle.signer()?, remedy, when));
        for root in bundle.anchors()? {
            if !roots.contains(&root) {
                let remedy = "isthmus mesh rotate root".to_owned();
                told.push(Expiry::of(hierarchy.cluster(cluster).join(ROOT), &root, remedy, when));
                roots.push(root);
            }
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests;
