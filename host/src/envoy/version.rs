//! Envoy's version, as it says it.

use std::fmt;

/// A version of Envoy, ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Such as 1.
    pub major: u32,
    /// Such as 40: a quarter's release.
    pub minor: u32,
    /// Such as 0.
    pub patch: u32,
}

impl Version {
    /// Reads what `envoy --version` says: `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
    #[must_use]
    pub fn said(text: &str) -> Option<Self> {
        let (_, build) = text.split_once("version:")?;
        Self::parsed(build.trim().split('/').nth(1)?)
    }

    /// `1.40.0`, or `1.41.0-dev` as of a build from the main branch.
    fn parsed(text: &str) -> Option<Self> {
        let plain = text.split('-').next()?;
        let mut numbers = plain.split('.').map(str::parse);
        let [major, minor, patch] = [numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?];
        numbers.next().is_none().then_some(Self { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    fn check(said: &str, expected: Option<&str>) {
        assert_eq!(Version::said(said).map(|version| version.to_string()).as_deref(), expected, "{said}");
    }

    #[test]
    fn what_envoys_say_is_read() {
        check("\n/usr/bin/envoy  version: f00dbeef/1.40.0/Clean/RELEASE/BoringSSL\n\n", Some("1.40.0"));
        check("envoy  version: f00dbeef/1.41.2-dev/Modified/RELEASE/BoringSSL", Some("1.41.2"));
    }

    #[test]
    fn what_other_programs_say_is_not() {
        for said in
            ["", "envoy version: 1.40.0", "version: a/1.40/b", "version: a/1.40.0.1/b", "nginx version: x/y"]
        {
            check(said, None);
        }
    }

    #[test]
    fn versions_compare_by_number() {
        let version = |minor, patch| Version { major: 1, minor, patch };
        assert!(version(9, 9) < version(38, 0) && version(38, 2) < version(38, 10));
    }
}
