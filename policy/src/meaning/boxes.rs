//! A set of points as boxes: of each axis some values, and every point of those.

use std::collections::BTreeSet;

/// The values of a box on each axis.
pub(super) type Span = Vec<BTreeSet<usize>>;

/// All points of a space whose axes have so many values.
pub(super) fn points(axes: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let total = if axes.is_empty() { 0 } else { axes.iter().product() };
    (0..total).map(|mut rest| {
        let mut point: Vec<usize> = axes
            .iter()
            .rev()
            .map(|length| {
                let value = rest.checked_rem(*length).unwrap_or_default();
                rest = rest.checked_div(*length).unwrap_or_default();
                value
            })
            .collect();
        point.reverse();
        point
    })
}

/// Boxes that together are the points that `holds` is true of: each as large as it can be along the last axes, then along
/// those before.
pub(super) fn boxes(axes: &[usize], holds: &dyn Fn(&[usize]) -> bool) -> Vec<Span> {
    let mut boxes: Vec<Span> = Vec::new();
    for point in points(axes) {
        if !holds(&point) || boxes.iter().any(|found| contains(found, &point)) {
            continue;
        }
        let mut grown: Span = point.iter().map(|value| BTreeSet::from([*value])).collect();
        for (axis, length) in axes.iter().enumerate().rev() {
            let held = |value: &usize| {
                let mut slice = grown.clone();
                if let Some(values) = slice.get_mut(axis) {
                    *values = BTreeSet::from([*value]);
                }
                all(&slice, holds)
            };
            let values = (0..*length).filter(held).collect();
            if let Some(old) = grown.get_mut(axis) {
                *old = values;
            }
        }
        // What a later box takes in whole was only said before it was known.
        boxes.retain(|found| !found.iter().zip(&grown).all(|(inner, outer)| inner.is_subset(outer)));
        boxes.push(grown);
    }
    boxes
}

fn contains(found: &Span, point: &[usize]) -> bool {
    found.iter().zip(point).all(|(values, value)| values.contains(value))
}

fn all(span: &Span, holds: &dyn Fn(&[usize]) -> bool) -> bool {
    let lists: Vec<Vec<usize>> = span.iter().map(|values| values.iter().copied().collect()).collect();
    let lengths: Vec<usize> = lists.iter().map(Vec::len).collect();
    let mut at = points(&lengths);
    at.all(|at| {
        let point: Option<Vec<usize>> =
            lists.iter().zip(at).map(|(values, number)| values.get(number).copied()).collect();
        point.is_some_and(|point| holds(&point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_the_points_and_no_others() {
        let axes = [3, 4, 2];
        for set in 0..2_000_u32 {
            let chosen = |point: &[usize]| {
                let number = point.iter().fold(0, |number, value| number * 5 + value + 1);
                (set.wrapping_mul(2_654_435_761) >> (number % 29)) & 1 == 1
            };
            let found = boxes(&axes, &chosen);
            for point in points(&axes) {
                assert_eq!(
                    found.iter().any(|found| contains(found, &point)),
                    chosen(&point),
                    "{set} {point:?}"
                );
            }
        }
        assert_eq!(boxes(&axes, &|_| true).len(), 1);
        assert_eq!(
            boxes(&axes, &|point| point[1] != 2),
            [[0..3, 0..4, 0..2].map(|all| {
                let all: BTreeSet<usize> = all.collect();
                if all.len() == 4 { BTreeSet::from([0, 1, 3]) } else { all }
            })]
        );
    }
}
