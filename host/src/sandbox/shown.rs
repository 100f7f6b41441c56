//! Which configuration a guest was shown.

/// Which configuration a context has read last: Envoy holds it where it has the arguments of foreign functions too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shown {
    #[default]
    Nothing,
    Vm,
    Plugin,
}
