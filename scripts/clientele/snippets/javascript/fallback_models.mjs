const answer = await fetch("http://127.0.0.1:9337/v1/chat/completions", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({
    model: "a-model-that-nobody-serves",
    fallback_models: ["smollm2-135m-instruct"],
    messages: [{ role: "user", content: "Say hello." }],
    max_tokens: 20,
  }),
});
const { model, choices } = await answer.json();
console.log(model, "says:", choices[0].message.content);
