//! An error with its sources on one line, for logs and for reasons that people read.

/// The words of `error` and of each of its sources, once each, joined by `: `.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_said_once_outermost_first() {
        let error = anyhow::anyhow!("no such file")
            .context("read the seed")
            .context("boot");
        assert_eq!(with_sources(&*error), "boot: read the seed: no such file");
    }
}
