"""POST /fill-mask: `endpoint` takes a request, `filling` runs it, `joint` fills several tokens, `masks` is the text."""
