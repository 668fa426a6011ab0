"""Write docs/python_reference.md from the docstrings of `import verbatim`, as griffe reads them: nothing is imported.

    make docs

Owns: how the page looks. Must not know: what the names do; their words are in the code.
"""

import re
from pathlib import Path

from griffe import Alias, Class, Docstring, DocstringSectionKind, Function, GriffeLoader, Object, Parameter, Parser

ROOT = Path(__file__).parent.parent
PAGE = Path(__file__).with_name("python_reference.md")

HEAD = """# The Python reference

`make docs` writes this page from the docstrings of the package; a test fails when a name or an argument is missing from
it. Examples, in the order one needs them: [python.md](python.md).

"""

TITLE = re.compile(r"\n+((?:Args|Attributes|Returns|Yields|Raises):\n)")
MADE_BY_CALLERS = ("Inverter",)
"""Classes whose constructor is for everybody; the others are handed out."""
PROPERTIES = {"property", "cached"}
MORE = {"Recipe": "Every key with its default and meaning: [recipes/default.toml](../recipes/default.toml).\n"}

TITLES = {
    DocstringSectionKind.parameters: "Arguments",
    DocstringSectionKind.attributes: "Attributes",
    DocstringSectionKind.returns: "Returns",
    DocstringSectionKind.yields: "Yields",
    DocstringSectionKind.raises: "Raises",
}


def page() -> str:
    """The whole page: a heading for each public name, its methods below it."""
    loader = GriffeLoader(search_paths=[ROOT])
    package = loader.load("verbatim")
    loader.resolve_aliases(external=True)
    names = sorted((str(name) for name in package.exports or []), key=str.lower)
    return HEAD + "\n".join(_entry(name, _behind(package[name])) for name in names if not name.startswith("__"))


def _behind(found: Object | Alias) -> Object:
    return found.final_target if isinstance(found, Alias) else found


def _entry(name: str, thing: Object) -> str:
    is_called = not isinstance(thing, Class) or name in MADE_BY_CALLERS
    signature = _signature(name, thing) if is_called else ""
    parts = [f"## verbatim.{name}\n", signature, _docstring(thing), MORE.get(name, "")]
    if isinstance(thing, Class) and thing.path.startswith("verbatim."):
        parts += [_member(member) for member in thing.members.values() if _is_shown(member)]
    return "\n".join(part for part in parts if part)


def _is_shown(member: Object | Alias) -> bool:
    is_own = not member.is_alias and not member.name.startswith("_") and "classmethod" not in member.labels
    return is_own and member.has_docstring and (member.is_function or bool(PROPERTIES & member.labels))


def _member(member: Object | Alias) -> str:
    member = _behind(member)
    return "\n".join(
        part for part in (f"### {member.name}\n", _signature(member.name, member), _docstring(member)) if part
    )


def _signature(name: str, thing: Object) -> str:
    """A call as one would write it, a line a keyword where it is long; nothing for what is not called."""
    call = thing.members.get("__init__") if isinstance(thing, Class) else thing
    if not isinstance(call, Function):
        return ""
    parameters = [each for each in call.parameters if each.name not in ("self", "cls")]
    kinds = [str(each.kind.value) for each in parameters]
    written = [_parameter(each) for each in parameters]
    if "keyword-only" in kinds and "variadic positional" not in kinds:
        written.insert(kinds.index("keyword-only"), "*")
    returned = f" -> {call.returns}" if call.returns and not isinstance(thing, Class) else ""
    line = f"{name}({', '.join(written)}){returned}"
    if len(line) > 100:
        line = "\n".join([f"{name}(", *(f"    {each}," for each in written), f"){returned}"])
    return f"```\n{line}\n```\n"


def _parameter(parameter: Parameter) -> str:
    default = "" if parameter.required else f" = {parameter.default}"
    return f"{parameter.name}: {parameter.annotation}{default}"


def _docstring(thing: Object) -> str:
    if thing.docstring is None:
        return ""
    # The parser wants an empty line before a section's title.
    docstring = Docstring(TITLE.sub(r"\n\n\1", thing.docstring.value), parent=thing, parser=Parser.google)
    parts = []
    for section in docstring.parse():
        if section.kind is DocstringSectionKind.text:
            parts.append(f"{section.value}\n")
        elif section.kind in TITLES:
            parts.append(f"{TITLES[section.kind]}:\n")
            parts.append("".join(f"- {_item(section.kind, item)}\n" for item in section.value))
        else:
            raise ValueError(f"{thing.path}: a section of the kind {section.kind.value} has no look here")
    return "\n".join(parts)


def _item(kind: DocstringSectionKind, item: object) -> str:
    words = " ".join(str(getattr(item, "description", "")).split())
    if kind in (DocstringSectionKind.returns, DocstringSectionKind.yields):
        return words
    name = getattr(item, "annotation", None) if kind is DocstringSectionKind.raises else getattr(item, "name", None)
    return f"`{name}`: {words}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
