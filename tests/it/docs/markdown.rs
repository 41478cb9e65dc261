//! Markdown as far as tests of the documentation need it: lines, links, blocks of code, marked tables.

/// A fenced block of code.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// The line of its opening fence, counted from 1.
    pub(super) line: usize,
    /// The first word of its info string, such as `sh`.
    pub(super) language: String,
    /// The other words, such as `no-run` or `file=lookout.yaml`.
    pub(super) words: Vec<String>,
    /// What is in it, with a line end.
    pub(super) text: String,
    /// The line before it that is not blank.
    pub(super) before: String,
}

impl Block {
    /// Whether its info string has this word.
    pub(super) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }

    /// The value of a word `key=value` of its info string.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Every line with its number and whether it is within a block of code.
pub(super) fn lines(page: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut is_code = false;
    page.lines().enumerate().map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        if is_fence {
            is_code = !is_code;
        }
        (at + 1, line, is_code || is_fence)
    })
}

/// The targets of all links and pictures outside of code.
pub(super) fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (_, line, _) in lines(page).filter(|(_, _, is_code)| !is_code) {
        for rest in line.split("](").skip(1) {
            found.extend(rest.split_once(')').map(|(link, _)| link.to_owned()));
        }
    }
    found
}

/// All blocks of code, in order.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut is_open, mut before) = (false, String::new());
    for (at, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(info) => {
                let mut words = info.trim().split(',').map(str::to_owned);
                let language = words.next().unwrap_or_default();
                let (words, text) = (words.collect(), String::new());
                blocks.push(Block { line: at + 1, language, words, text, before: before.clone() });
                is_open = true;
            }
            None if is_open => {
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
            None if !line.trim().is_empty() => line.clone_into(&mut before),
            None => {}
        }
    }
    blocks
}

/// What stands between `<!-- generated: NAME -->` and `<!-- end -->`, by its name, in order.
pub(super) fn generated(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("<!-- generated: ") {
        let (name, after) = after.split_once(" -->\n").expect("the end of a mark");
        let (inside, after) = after.split_once("<!-- end -->").unwrap_or_else(|| panic!("`{name}` has no end"));
        found.push((name.to_owned(), inside.to_owned()));
        rest = after;
    }
    found
}

/// The page with `inside` in place of what stands between the marks of `name`.
pub(super) fn with_generated(page: &str, name: &str, inside: &str) -> String {
    let mark = format!("<!-- generated: {name} -->\n");
    let (head, rest) = page.split_once(&mark).expect("the mark");
    let (_, tail) = rest.split_once("<!-- end -->").expect("its end");
    format!("{head}{mark}{inside}<!-- end -->{tail}")
}

/// The cells of a table's row; `\|` is no border.
pub(super) fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').replace("\\|", "\u{0}");
    let row = row.strip_suffix('|').unwrap_or(&row);
    row.split('|').map(|cell| cell.trim().replace('\u{0}', "\\|")).collect()
}
