//! Which children restart when one ends.

/// Which children a restart affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only the child itself.
    OneForOne,
    /// The child, and the children of the same group that were started after it, because they depend on it.
    RestForOne {
        /// Children with the same number form the group.
        group: u8,
    },
}

/// Returns the children (by index, in start order) that restart when `failed` ends.
#[must_use]
pub fn affected(strategies: &[Strategy], failed: usize) -> Vec<usize> {
    match strategies[failed] {
        Strategy::OneForOne => vec![failed],
        Strategy::RestForOne { .. } => {
            (failed..strategies.len()).filter(|child| strategies[*child] == strategies[failed]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_for_one_takes_the_later_children_of_its_group_only() {
        let group = Strategy::RestForOne { group: 1 };
        let strategies = [group, Strategy::OneForOne, group, Strategy::RestForOne { group: 2 }];
        assert_eq!(affected(&strategies, 0), [0, 2]);
        assert_eq!(affected(&strategies, 1), [1]);
        assert_eq!(affected(&strategies, 2), [2]);
        assert_eq!(affected(&strategies, 3), [3]);
    }
}
