// nginx's policies in njs; each request has variables of its own.
let body = ''
let rewriting = false

const robot = request => {
  const agent = request.headersIn['User-Agent']
  return agent && agent.includes('robot') ? '1' : ''
}

const mark = request => { request.headersOut['X-Passed'] = 'policy' }

const unmeasured = request => {
  rewriting = request.headersOut['Content-Type'] === 'application/json'
  if (!rewriting) return
  delete request.headersOut['Content-Length']
  delete request.headersOut['ETag']
  delete request.headersOut['Last-Modified']
}

const rewrite = (request, piece, flags) => {
  if (!rewriting) {
    request.sendBuffer(piece, flags)
    return
  }
  body += piece
  if (flags.last) {
    const document = JSON.parse(body)
    document.passed = true
    request.sendBuffer(JSON.stringify(document), flags)
  }
}

export default { robot, mark, unmeasured, rewrite }
