//! The blocks of code of a page.

/// A block between two lines of three backticks.
#[derive(Debug, Clone)]
pub struct Block {
    /// What stands behind the first backticks.
    pub language: String,
    /// The line of the page where its text begins, from 1.
    pub line: usize,
    pub text: String,
}

/// All of them, also those in lists.
pub fn of(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in page.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let block = Block { language: language.trim().into(), line: number + 2, text: String::new() };
                open = Some((indent, block));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
            (None, Some((indent, block))) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    blocks
}

impl Block {
    /// The name of the file that the block is, if its first line says so: `# presses.yaml`.
    pub fn file_name(&self) -> Option<&str> {
        let name = self.text.lines().next()?.strip_prefix("# ")?;
        let is_name = name.contains('.') && !name.contains(' ') && !name.starts_with('.') && !name.ends_with('.');
        is_name.then_some(name)
    }

    /// The commands of a block of `console`, each with the lines that it prints.
    pub fn commands(&self) -> Vec<(String, Vec<String>)> {
        let mut commands: Vec<(String, Vec<String>)> = Vec::new();
        for line in self.text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command.into(), Vec::new())),
                (None, Some((_, said))) => said.push(line.into()),
                (None, None) => panic!("line {}: a block of `console` begins with `$ `", self.line),
            }
        }
        commands
    }
}

#[test]
fn blocks_are_found_with_their_language_and_place() {
    let found = of("a\n```sh\nls\n```\n1. b\n   ```console\n   $ ls\n   x\n   ```\n");
    let found: Vec<(&str, usize, &str)> =
        found.iter().map(|block| (block.language.as_str(), block.line, block.text.as_str())).collect();
    assert_eq!(found, [("sh", 3, "ls\n"), ("console", 7, "$ ls\nx\n")]);
}
