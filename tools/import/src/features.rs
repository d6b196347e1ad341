//! The `features` string of the kernel's multipath target: a word count, then the words.

/// The feature that no_path_retry replaced.
pub(crate) const QUEUE: &str = "queue_if_no_path";

/// Whether the features contain `queue_if_no_path`.
pub(crate) fn queue_if_no_path(features: &str) -> bool {
    features.contains(QUEUE)
}

/// The features without it, with the count corrected.
pub(crate) fn without_queue(features: &str) -> String {
    let words: Vec<&str> = features
        .split_whitespace()
        .skip(1)
        .filter(|word| *word != QUEUE)
        .collect();
    std::iter::once(words.len().to_string().as_str())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_spelling_is_taken_out_and_the_rest_counted() {
        assert!(queue_if_no_path("1 queue_if_no_path"));
        assert_eq!(without_queue("1 queue_if_no_path"), "0");
        assert_eq!(
            without_queue("3 queue_if_no_path pg_init_retries 50"),
            "2 pg_init_retries 50"
        );
    }
}
