"""Names that a stranger chose: what reaches a terminal, a picture or a shell as something else than that."""

SEEN = "tests/cache/test_visible.py"
HOSTILE = "tests/cli/test_hostile_names.py"
LOOKS = f"{HOSTILE}::test_a_command_that_looks_at_hostile_names_shows_them"
TYPED = f"{HOSTILE}::test_what_was_typed_is_repeated_as_it_can_be_seen"
POOR = f"{HOSTILE}::test_a_terminal_of_a_poor_encoding_gets_escapes"
DOOR = "tests/test_fences.py"

MUTANTS = [
    ("controls reach the terminal", "visible:visible", "c if c.isprintable() else",
     "c if c != '\\n' else", SEEN),
    ("a line break in a name begins a line", "visible:visible", "c if c.isprintable() else",
     "c if c.isprintable() or c == '\\n' else", f"{SEEN} {LOOKS}"),
    ("what was escaped is escaped again", "visible:visible", "c if c.isprintable() else",
     'c if c.isprintable() and c != "\\\\" else', SEEN),
    ("a name of ASCII passes whole", "visible:visible", "if line.isprintable()", "if line.isascii()", SEEN),
    ("an error's first part is raw", "KdError.__str__", "visible(self.what)", "self.what", f"{SEEN} {TYPED}"),
    ("an error's place is raw", "KdError.__str__", "visible(self.where)", "self.where", SEEN),
    ("an error's advice is raw", "KdError.__str__", "visible_lines(self.fix)", "self.fix", SEEN),
    ("a layout is one long line", "visible_lines", 'text.split(f"\\n{INDENT}")', "[text]", SEEN),
    ("a picture asks its font for any letter", "drawable", '"latin-1", "backslashreplace"', '"utf-8"', SEEN),
    ("a word to copy is quoted and cannot be seen", "shell_word", "if text.isprintable()", "if True", SEEN),
    ("a quote ends a word to copy", "_in_quotes", 'in "\'\\\\"', 'in "\\\\"', SEEN),
    ("a byte of a file's name becomes two", "_in_quotes", "code in _ESCAPED_BYTES", "False", SEEN),
    ("a control in a word to copy takes the next digit", "_in_quotes",
     'f"\\\\x{code:02x}"\n    return', 'f"\\\\x{code:x}"\n    return', SEEN),
    ("a line is read as markup", "Terminal.say", "Text(visible(line), style)",
     "Text.from_markup(visible(line))", f"{DOOR} {LOOKS}"),
    ("a line is raw", "Terminal.say", "Text(visible(line), style)", "Text(str(line), style)", LOOKS),
    ("what is in bold is raw", "Terminal.say", "visible(strong)", "str(strong)", LOOKS),
    ("a list is raw", "Terminal.list_lines", "print(visible(line))", "print(line)", LOOKS),
    ("cells are raw", "terminal:_cell", "map(visible, ", "map(str, ", LOOKS),
    ("the bar reads markup", "Bar.__init__", 'TextColumn(f"{{task.fields[{field}]}}", markup=False)',
     'TextColumn(f"{{task.fields[{field}]}}")', f"{DOOR}::test_no_markup_is_read_behind_the_door"),
    ("usage errors are raw", "visible_usage", "click.UsageError(visible(error.format_message()), error.ctx)",
     "click.UsageError(error.format_message(), error.ctx)", TYPED),
    ("a usage error forgets its command", "visible_usage", "error.ctx) from", "None) from",
     f"{HOSTILE}::test_a_usage_error_still_says_how_the_command_is_used"),
    ("a letter that the encoding lacks is a traceback", "AnyEncoding.__enter__", '"backslashreplace"',
     '"strict"', POOR),
    ("streams stay changed", "AnyEncoding.__exit__", "stream.reconfigure(errors=errors)", "pass",
     f"{HOSTILE}::test_the_streams_are_left_as_they_were"),
    ("a run's options are written in the terminal's encoding", "atomic_file:write_text", "text.encode()",
     'text.encode(__import__("locale").getencoding(), "replace")',
     f"{HOSTILE}::test_a_run_keeps_every_name_whatever_the_encoding_is"),
]  # fmt: skip
