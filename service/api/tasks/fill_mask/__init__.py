"""POST /fill-mask: `endpoint` checks a request, `filling` runs it, `joint` fills masks together, `masks` edits texts."""
