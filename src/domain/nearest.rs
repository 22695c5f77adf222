//! Guesses which known word a wrong one was meant to be.

/// Returns the candidate most like `unknown`, if it is like any.
pub fn nearest<'a>(unknown: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const SIMILARITY_MIN: f64 = 0.6;
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(unknown, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
