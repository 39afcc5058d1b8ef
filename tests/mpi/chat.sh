#!/bin/bash
# Conversations: messages of JSON Lines become the prompts that the template of the checkpoint makes of them;
# control tokens that a user writes stay text; what cannot be rendered is an error row.
# timeout: 120
. "$(dirname "$0")/lib.sh"
job=tests/mpi/job.yaml
need "$tandem"
model=$(sed -n 's/^model: *//p' $job)
cp -rL "$model" "$work/model" && chmod -R u+w "$work/model" || fail "copying the model"
cat >"$work/model/chat_template.jinja" <<'J'
{{ bos_token }}
{%- for m in messages %}
{%- if m.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('a role that nobody knows') }}{% endif %}
{{ m.content | trim }},{{ ' noun:' if loop.last and (noun is not defined or noun) }}
{%- endfor -%}
J
cat >"$work/chat.jsonl" <<'J'
{"id": "a", "messages": [{"role": "user", "content": " harbor "}]}
{"id": "b", "messages": [{"role": "system", "content": "to waltz"}, {"role": "user", "content": "caf\u00e9"}]}
{"id": "c", "messages": [{"role": "user", "content": "a <|begin|> b"}]}
{"id": "d", "messages": [{"role": "pirate", "content": "x"}]}
{"id": "e", "messages": []}
{"id": "f", "messages": [{"role": "user", "content": [{"type": "text", "text": "harbor"}, {"type": "text", "text": "boat"}]}]}
{"id": "g", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]}]}
{"id": "h", "messages": [{"role": "user", "content": [{"type": "image_url", "text": "harbor"}]}]}
{"id": "i", "messages": [{"role": "user", "content": ["harbor", {"text": "boat"}, {"type": "input_text", "text": "sail"}]}]}
J
# The same as texts: what the template makes of them.
cat >"$work/text.jsonl" <<'J'
{"id": "a", "text": "harbor, noun:"}
{"id": "b", "text": "to waltz,caf\u00e9, noun:"}
{"id": "f", "text": "harbor\nboat, noun:"}
{"id": "i", "text": "harbor\nboat\nsail, noun:"}
J
cat >"$work/batch.jsonl" <<'J'
{"custom_id": "q", "body": {"messages": [{"role": "user", "content": "harbor"}], "max_tokens": 3}}
J
for name in chat text batch; do
    "$tandem" import "$work/$name.jsonl" "$work/$name.h5" || fail "import of $name"
    decode $name-done 2 model="$work/model" prompts.file="$work/$name.h5" prompts.count=all prompts.bos=auto || fail $name
done
cmp <(completions chat-done | head -n 2) <(completions text-done | head -n 2) || fail "a conversation is not its text"
"$tandem" export "$work/chat-done.h5" | sed -n 4p | grep -q "a role that nobody knows" || fail "a role"
"$tandem" export "$work/chat-done.h5" | sed -n 5p | grep -q "a list of messages" || fail "no messages"
"$tandem" export "$work/chat-done.h5" | sed -n 7p | grep -q 'message 1: part 2 of its content is \\"image_url' || fail "an image"
"$tandem" export "$work/chat-done.h5" | sed -n 8p | grep -q 'message 1: part 1 of its content is \\"image_url' || fail "an image's text"
text_of() { completions "$1" | sed -n "$2p" | grep -o '"text": "[^"]*"'; }
[ "$(text_of chat-done 6)" = "$(text_of text-done 3)" ] || fail "parts of a content: $(text_of chat-done 6)"
[ "$(text_of chat-done 9)" = "$(text_of text-done 4)" ] || fail "parts of other types: $(text_of chat-done 9)"
"$tandem" export "$work/batch-done.h5" | grep -q '"id": *"q"' || fail "custom_id"
decode many 2 model="$work/model" prompts.file="$work/chat.h5" prompts.count=all sampling.samples=2 sampling.temperature=1 || fail many
"$tandem" export "$work/many.h5" --format openai >"$work/openai.jsonl" || fail "export --format openai"
"$tandem" export "$work/many.h5" >"$work/own.jsonl" || fail export
"$tandem" export "$work/many.h5" --format openai --tokens 2>/dev/null && fail "--format openai --tokens"
"$PYTHON" - "$work" <<'P' || fail "lines of an OpenAI batch"
import json, sys
rows = [json.loads(line) for line in open(f"{sys.argv[1]}/own.jsonl", encoding="utf-8")]
lines = [json.loads(line) for line in open(f"{sys.argv[1]}/openai.jsonl", encoding="utf-8")]
assert [l["custom_id"] for l in lines] == ["a", "b", "c", "d", "e", "f", "g", "h", "i"], lines
for l, both in zip(lines, zip(rows[::2], rows[1::2])):
    if both[0]["error"]:
        assert l["response"] is None and l["error"]["message"] == both[0]["error"], l
        continue
    body = l["response"]["body"]
    assert l["error"] is None and l["response"]["status_code"] == 200 and body["object"] == "chat.completion", l
    assert [c["message"]["content"] for c in body["choices"]] == [r["text"] for r in both], (l, both)
    assert [c["finish_reason"] for c in body["choices"]] == [r["finish"] for r in both], (l, both)
    assert body["usage"]["prompt_tokens"] == both[0]["prompt_tokens"], l
P
# Prompts that are no conversations are answered as /v1/completions does.
for name in chat text; do "$tandem" export "$work/$name-done.h5" --format openai >"$work/$name.openai" || fail "export of $name"; done
"$PYTHON" - "$work" <<'P' || fail "lines of plain completions"
import json, sys
chat, text = ([json.loads(line)["response"] for line in open(f"{sys.argv[1]}/{n}.openai", encoding="utf-8")] for n in ("chat", "text"))
for c, t in zip(chat[:2], text[:2]):
    assert c["body"]["object"] == "chat.completion" and t["body"]["object"] == "text_completion", (c, t)
    (said,), (plain,) = c["body"]["choices"], t["body"]["choices"]
    assert plain["text"] == said["message"]["content"] and "message" not in plain and "text" not in said, (said, plain)
    assert plain["finish_reason"] == said["finish_reason"] and t["body"]["usage"] == c["body"]["usage"], (c, t)
P
# bos: where tokenizer_config.json says nothing, the post-processor of tokenizer.json does.
sed -i '/"add_bos_token"/d' "$work/model/tokenizer_config.json"
begins() {
    "$tandem" check $job --set model="$work/model" --set output.file="$work/none.h5" | grep -q "^first prompt.*tokens: 0'"
}
begins && fail "a bos token that nobody asked for"
"$PYTHON" - "$work/model/tokenizer.json" <<'P'
import json, sys
t = json.load(open(sys.argv[1], encoding="utf-8"))
t["post_processor"] = {"type": "Sequence", "processors": [t["post_processor"], {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [], "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [0], "tokens": ["<|begin|>"]}}}]}
json.dump(t, open(sys.argv[1], "w", encoding="utf-8"))
P
begins || fail "the post-processor puts a bos token first"
# tokens of the prompts that check shows
shown() {
    "$tandem" check $job --set model="$work/model" --set prompts.file="$work/$1.h5" --set prompts.bos=auto \
        --set prompts.first="$2" --set prompts.count=1 --set output.file="$work/none.h5" "${@:3}" | grep "^first prompt"
}
[ "$(shown chat 2 | grep -o "'<|begin|>'" | wc -l)" = 1 ] || fail "a control token in a message: $(shown chat 2)"
[ "$(shown chat 2 --set prompts.special=control | grep -o "'<|begin|>'" | wc -l)" = 2 ] || fail "special: control"
shown chat 0 --set 'chat.template_kwargs={noun: false}' | grep -q noun && fail "template_kwargs"
[ "$(shown chat 0 --set 'chat.system=to waltz' | wc -w)" -gt "$(shown chat 0 | wc -w)" ] || fail "chat.system"
# Templates that go through the parts of a content get parts, others a text: a loop over messages with contents is none.
looped() { # TEMPLATE TEXT
    printf '%s' "$1" >"$work/parts.jinja"
    shown chat 8 --set chat.template="$work/parts.jinja" | grep -qF "$2" || fail "$1: $(shown chat 8 --set chat.template="$work/parts.jinja")"
}
echo '{"id": "i", "text": "<harbor>,<boat>,<sail>,"}' | "$tandem" import --force - "$work/looped.h5" >/dev/null || fail "import of looped"
looped=$(shown looped 0 | sed 's/.*tokens: //')
for over in m.content "m['content'] | selectattr('type', 'equalto', 'text')"; do
    looped "{{ bos_token }}{% for m in messages %}{% for p in $over if p.type == 'text' %}<{{ p.text }}>,{% endfor %}{% endfor %}" "$looped"
done
echo '{"id": "i", "text": "harbor\nboat\nsail"}' | "$tandem" import --force - "$work/looped.h5" >/dev/null || fail "import of looped"
looped "{{ bos_token }}{% for m in messages if m.content %}{{ m.content }}{% endfor %}" "$(shown looped 0 | sed 's/.*tokens: //')"
# What ends the reasoning is usual only where the template or the vocabulary has it.
"$tandem" check $job --set model="$work/model" --set output.file="$work/none.h5" --set sampling.thinking_tokens=5 >"$work/log" 2>&1 &&
    fail "reasoning that no </think> can end"
grep -q "thinking_tokens: neither the vocabulary nor the chat template knows </think>; say with thinking_end" "$work/log" || fail "thinking: $(cat "$work/log")"
echo "{# </think> #}{{ messages[0].content }}" >"$work/think.jinja"
shown chat 0 --set sampling.thinking_tokens=5 --set chat.template="$work/think.jinja" | grep -q tokens || fail "</think> in the template"
# Keys of conversations mean nothing to texts, a file that is not there less.
"$tandem" check $job --set chat.template="$work/think.jinja" --set output.file="$work/none.h5" >"$work/log" 2>&1 && fail "a template for texts"
grep -q "chat.template is for prompts that are messages, but those of .* are not; import" "$work/log" || fail "texts: $(cat "$work/log")"
"$tandem" check $job --set model="$work/model" --set prompts.file="$work/chat.h5" --set chat.template="$work/gone" --set output.file="$work/none.h5" \
    >"$work/log" 2>&1 && fail "a template that is gone"
grep -q "chat.template: .*gone: cannot be opened" "$work/log" || fail "gone: $(cat "$work/log")"
cp -r input/demo "$work/plain"
sed -i '/chat_template/d; s/\("model_max_length": [0-9]*\),/\1/' "$work/plain/tokenizer_config.json"
if "$tandem" check $job --set model="$work/plain" --set prompts.file="$work/chat.h5" --set output.file="$work/none.h5" >"$work/log" 2>&1; then
    fail "no template, and no message"
fi
grep -q "there is no chat template" "$work/log" || fail "no template: $(cat "$work/log")"
echo "conversations are prompts"
